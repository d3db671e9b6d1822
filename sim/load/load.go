// Package load drives many lean devices against a live cloud and says what it did with them.
//
//	f, err := load.Open(ctx, load.Options{Addr: "127.0.0.1:8883", Place: cloud.Place{Dir: "cloud"}, Devices: 1000})
//	defer f.Close()
//	storm := f.Connect(ctx, 256)                              // everybody comes at once, 256 at a time
//	err = f.Prepare(ctx, 20_000)                              // cards are sealed before anybody waits
//	p := f.Drive(ctx, load.Pace{InFlight: 64, For: 10 * time.Second})
//
// A device has a certificate, a ticket and a channel of its own, and speaks MQTT to whatever broker
// stands at Addr. It repeats what is not answered, as agents do. It keeps nothing on a disk: what it
// can upload is what it remembers. The limits are this machine's: devices share its CPUs with
// whatever else runs here, the cloud too when it is here.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/identity"
	"coinop/protocol"
)

// Options of a fleet. Addr, Place and Devices are needed.
type Options struct {
	Addr    string      // of the broker
	Server  string      // name in its certificate: the host of Addr
	Place   cloud.Place // where the cloud keeps its keys and its registry: devices are added there
	Devices int
	Name    string // devices are NAME-1, NAME-2 …: "load". Those there are get new certificates
	Link    string // to the bank: "bank"
	Keep    bool   // remember what was approved, for Custody
	// Progress is told once a second how far a phase is; nil: nobody.
	Progress func(string)
}

// Fleet is the devices. One phase runs at a time.
type Fleet struct {
	o       Options
	addr    string
	server  string
	keep    atomic.Bool
	keys    identity.Keys
	roots   *x509.CertPool
	devices []*device

	serving    sync.WaitGroup
	stop       chan struct{}
	repeats    atomic.Int64
	unprepared atomic.Int64 // cards that were sealed while somebody waited

	mu   sync.Mutex
	odds map[string]int // what a device noted that belongs to no request
}

// Phase is what came of one.
type Phase struct {
	Name      string         `json:"name"`
	Seconds   float64        `json:"seconds"`
	Done      int            `json:"done"`
	PerSecond float64        `json:"per_second"`
	P50MS     float64        `json:"p50_ms"`
	P90MS     float64        `json:"p90_ms"`
	P99MS     float64        `json:"p99_ms"`
	Repeats   int            `json:"repeats,omitempty"`
	Errors    map[string]int `json:"errors,omitempty"` // by reason
}

// NoDevice is the reason of what was not asked because every device was asking.
const NoDevice = "no device was free"

// Failed is how many errors there were.
func (p Phase) Failed() (n int) {
	for _, v := range p.Errors {
		n += v
	}
	return n
}

// Open adds the devices to the cloud's registry. The cloud may be running.
func Open(ctx context.Context, o Options) (*Fleet, error) {
	if o.Devices <= 0 {
		return nil, errors.New("load: want devices")
	}
	if o.Name == "" {
		o.Name = "load"
	}
	if o.Link == "" {
		o.Link = "bank"
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("load: address of the broker: %w", err)
	}
	if o.Server == "" {
		o.Server = host
	}
	f := &Fleet{o: o, addr: o.Addr, server: o.Server, stop: make(chan struct{}), odds: map[string]int{}}
	f.keep.Store(o.Keep)
	st, keys, _, err := o.Place.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	f.keys, f.roots = keys, x509.NewCertPool()
	f.roots.AddCert(keys.Authority.Cert)
	f.devices = make([]*device, o.Devices)
	ip := net.ParseIP(host)
	near := ip != nil && ip.IsLoopback() && ip.To4() != nil
	t := f.tally("enroll", o.Devices)
	f.parallel(ctx, 64, func(i int) {
		d := newDevice(f, protocol.DeviceID(fmt.Sprintf("%s-%d", o.Name, i+1)))
		if near {
			d.from = home(i)
		}
		f.devices[i] = d
		began := time.Now()
		var key []byte
		var err error
		if d.bundle, err = keys.Authority.Device(d.id, began, identity.Cloud{}); err == nil {
			key, err = x509.MarshalPKIXPublicKey(&d.bundle.Key.PublicKey)
		}
		if err == nil {
			err = st.PutDevice(ctx, identity.Device{
				ID: d.id, Tenant: "load", Serial: d.bundle.Serial, Key: key, Link: o.Link,
				Merchant: acquirer.Merchant{TID: fmt.Sprintf("L%07d", i+1), MID: "MERCHANT0000001", MCC: "5814", Country: "040"},
			}, true)
		}
		t.add(time.Since(began), err)
	})
	if p := t.end(); p.Failed() > 0 {
		return nil, fmt.Errorf("load: devices not added: %v", p.Errors)
	}
	f.serving.Go(f.watch)
	return f, context.Cause(ctx)
}

// Close ends every connection and waits for its goroutine.
func (f *Fleet) Close() {
	close(f.stop)
	for _, d := range f.devices {
		d.close()
	}
	f.serving.Wait()
}

// Keep says whether what is approved from now on is remembered for Custody.
func (f *Fleet) Keep(on bool) { f.keep.Store(on) }

// Hang ends every connection; the devices can connect again.
func (f *Fleet) Hang() {
	for _, d := range f.devices {
		d.close()
	}
	for end := time.Now().Add(5 * time.Second); f.Connected() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// Handshakes lets every device shake hands with something that does nothing but TLS, and says one byte.
// The connections stay until end is called.
func (f *Fleet) Handshakes(ctx context.Context, addr string, at int) (p Phase, end func()) {
	t := f.tally("handshake", len(f.devices))
	conns := make([]net.Conn, len(f.devices))
	f.parallel(ctx, at, func(i int) {
		d := f.devices[i]
		began := time.Now()
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		c, err := (&tls.Dialer{NetDialer: &net.Dialer{LocalAddr: d.from}, Config: f.tls(d)}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conns[i] = c
			_, err = c.Read(make([]byte, 1))
		}
		t.add(time.Since(began), err)
	})
	return t.end(), func() {
		for _, c := range conns {
			if c != nil {
				_ = c.(*tls.Conn).NetConn().Close()
			}
		}
	}
}

// Connected is how many devices are.
func (f *Fleet) Connected() (n int) {
	for _, d := range f.devices {
		d.mu.Lock()
		if d.link != nil {
			n++
		}
		d.mu.Unlock()
	}
	return n
}

// watch repeats what is not answered and keeps connections alive.
func (f *Fleet) watch() {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	ping, began := 0, time.Now()
	for {
		select {
		case <-f.stop:
			return
		case now := <-tick.C:
			for _, d := range f.devices {
				d.look(now)
			}
			// Each has its turn once in pingEvery.
			due := int(float64(len(f.devices)) * float64(now.Sub(began)) / float64(pingEvery))
			for ; ping < due; ping++ {
				d := f.devices[ping%len(f.devices)]
				d.mu.Lock()
				l := d.link
				d.mu.Unlock()
				if l != nil {
					_ = l.ping()
				}
			}
		}
	}
}

func (f *Fleet) note(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.odds[what]++
}

// parallel calls do for every device's index, so many at a time, until ctx ends.
func (f *Fleet) parallel(ctx context.Context, at int, do func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(max(at, 1), len(f.devices)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(f.devices) {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
}

// tally counts one phase.
type tally struct {
	f     *Fleet
	name  string
	of    int
	began time.Time
	stop  chan struct{}
	told  sync.WaitGroup
	was   int64

	mu     sync.Mutex // guards what follows
	spans  Spans
	errors map[string]int
}

func (f *Fleet) tally(name string, of int) *tally {
	t := &tally{f: f, name: name, of: of, began: time.Now(), stop: make(chan struct{}), errors: map[string]int{}, was: f.repeats.Load()}
	if f.o.Progress == nil {
		return t
	}
	t.told.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last := 0
		for {
			select {
			case <-t.stop:
				return
			case <-tick.C:
				t.mu.Lock()
				n, failed := t.spans.Count(), total(t.errors)
				t.mu.Unlock()
				text := fmt.Sprintf("%s: %d", t.name, n)
				if t.of > 0 {
					text += fmt.Sprintf(" of %d", t.of)
				}
				f.o.Progress(fmt.Sprintf("%s, %d/s, %d errors", text, n-last, failed))
				last = n
			}
		}
	})
	return t
}

func total(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func (t *tally) add(span time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors[reason(err)]++
		return
	}
	t.spans.Add(span)
}

// reason is an error without what differs from one device to the next.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

func (t *tally) end() Phase {
	span := time.Since(t.began)
	close(t.stop)
	t.told.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.f.mu.Lock()
	for what, n := range t.f.odds {
		t.errors[what] += n
	}
	clear(t.f.odds)
	t.f.mu.Unlock()
	ms := func(p float64) float64 { return float64(t.spans.Percentile(p).Microseconds()) / 1000 }
	return Phase{
		Name: t.name, Seconds: span.Seconds(), Done: t.spans.Count(), PerSecond: float64(t.spans.Count()) / span.Seconds(),
		P50MS: ms(0.5), P90MS: ms(0.9), P99MS: ms(0.99), Repeats: int(t.f.repeats.Load() - t.was), Errors: t.errors,
	}
}

// Connect lets every device that is not connected connect and ask for its watermark, so many at a
// time: handshake, CONNECT, SUBSCRIBE, hello, first batch. A refused one comes again, as agents do.
func (f *Fleet) Connect(ctx context.Context, at int) Phase {
	t := f.tally("connect", len(f.devices))
	f.parallel(ctx, at, func(i int) {
		d := f.devices[i]
		began := time.Now()
		var err error
		for try := range 5 {
			if err = d.connect(ctx); err == nil || ctx.Err() != nil {
				break
			}
			select {
			case <-time.After(time.Duration(try+1) * 200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if err == nil {
			err = f.hello(d)
		}
		t.add(time.Since(began), err)
	})
	return t.end()
}

// hello is a connection's first batch.
func (f *Fleet) hello(d *device) error {
	d.mu.Lock()
	fresh := d.head.Seq == 0
	d.mu.Unlock()
	var first []protocol.Record
	if fresh {
		first = append(first, d.began())
	}
	return ask(func(done func(answer, error)) error { return d.upload(first, done) })
}

// ask waits for what is asked.
func ask(send func(func(answer, error)) error) error {
	_, err := told(send)
	return err
}

func told(send func(func(answer, error)) error) (answer, error) {
	type end struct {
		answer
		err error
	}
	ended := make(chan end, 1)
	if err := send(func(a answer, err error) { ended <- end{a, err} }); err != nil {
		return answer{}, err
	}
	e := <-ended
	return e.answer, e.err
}

// Ready waits until the bank answers.
func (f *Fleet) Ready(ctx context.Context) error {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		a, err := told(f.devices[0].authorize)
		if err != nil || a.response.Result == protocol.Approved {
			return err
		}
	}
	return errors.Join(context.Cause(ctx), errors.New("the bank does not come into service"))
}

// Prepare seals so many cards in all, before anybody waits for them: one at each device, and again. A payment's id
// begins with the time, and so they come to the cloud in the order of their ids, as those of buyers do.
func (f *Fleet) Prepare(ctx context.Context, cards int) error {
	each := (cards + len(f.devices) - 1) / len(f.devices)
	t := f.tally("seal cards", each*len(f.devices))
	for range each {
		f.parallel(ctx, 8, func(i int) {
			d := f.devices[i]
			began := time.Now()
			c, err := d.present()
			t.add(time.Since(began), err)
			d.mu.Lock()
			d.cards = append(d.cards, c)
			d.mu.Unlock()
		})
	}
	if p := t.end(); p.Failed() > 0 {
		return fmt.Errorf("seal cards: %v", p.Errors)
	}
	return context.Cause(ctx)
}

// Pace is how a fleet asks for authorizations. One of InFlight and Rate is needed.
type Pace struct {
	InFlight int     // so many wait at any moment: as fast as it goes
	Rate     float64 // a second, whether or not they are answered; one that finds no free device is an error
	For      time.Duration
}

// Drive asks for authorizations at a pace. An answer that is no approval is an error, by its reason.
func (f *Fleet) Drive(ctx context.Context, p Pace) Phase {
	ctx, cancel := context.WithTimeout(ctx, p.For)
	defer cancel()
	idle := make(chan *device, len(f.devices))
	for _, d := range f.devices {
		idle <- d
	}
	name := fmt.Sprintf("authorize, %d in flight", p.InFlight)
	if p.InFlight == 0 {
		name = fmt.Sprintf("authorize, %.0f/s", p.Rate)
	}
	t := f.tally(name, 0)
	var waiting sync.WaitGroup
	// start lets the next free device ask; then, in a closed loop, its answer starts the one after.
	var start func(again bool) bool
	start = func(again bool) bool {
		for ctx.Err() == nil {
			select {
			case d := <-idle:
				waiting.Add(1)
				err := d.authorize(func(a answer, err error) {
					defer waiting.Done()
					idle <- d
					t.add(a.span, outcome(a, err))
					if again {
						start(true)
					}
				})
				if err == nil {
					return true
				}
				waiting.Done() // the device does not come back
				t.add(0, err)
			default:
				return false
			}
		}
		return true
	}
	if p.InFlight > 0 {
		for range p.InFlight {
			start(true)
		}
		<-ctx.Done()
	} else {
		f.pace(ctx, t, p.Rate, func() bool { return start(false) })
	}
	waiting.Wait()
	return t.end()
}

// pace calls start at a rate.
func (f *Fleet) pace(ctx context.Context, t *tally, rate float64, start func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, n := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for due := int(time.Since(began).Seconds() * rate); n < due; n++ {
				if !start() {
					t.add(0, errors.New(NoDevice))
				}
			}
		}
	}
}

// outcome is what keeps an answer from being an approval.
func outcome(a answer, err error) error {
	if err == nil && a.response.Result != protocol.Approved {
		err = errors.New(strings.TrimSpace(fmt.Sprintf("%s %s", a.response.Result, a.response.Code)))
	}
	return err
}

// Custody uploads every sale that was approved and kept, one batch a sale, so many devices at a
// time. A sale is done when the cloud has said that it holds it.
func (f *Fleet) Custody(ctx context.Context, at int) Phase {
	sales := 0
	for _, d := range f.devices {
		d.mu.Lock()
		sales += len(d.paid)
		d.mu.Unlock()
	}
	t := f.tally("custody", sales)
	f.parallel(ctx, at, func(i int) {
		d := f.devices[i]
		d.mu.Lock()
		all := d.paid
		d.paid = nil
		d.mu.Unlock()
		for _, p := range all {
			if ctx.Err() != nil {
				return
			}
			began := time.Now()
			err := ask(func(done func(answer, error)) error { return d.upload(sale(p), done) })
			t.add(time.Since(began), err)
		}
	})
	return t.end()
}

// batchMost is the most records of a batch, as an agent's.
const batchMost = 64

// Flood is the end of an outage: every device connects and uploads so many records it has written
// meanwhile, all at once. A batch is done when the cloud has acknowledged it.
func (f *Fleet) Flood(ctx context.Context, recordsEach, at int) (connects, uploads Phase) {
	f.Hang()
	batches := (recordsEach + batchMost - 1) / batchMost
	up := f.tally("upload", batches*len(f.devices))
	c := f.tally("connect", len(f.devices))
	f.parallel(ctx, at, func(i int) {
		d := f.devices[i]
		began := time.Now()
		err := d.connect(ctx)
		if err == nil {
			err = f.hello(d)
		}
		c.add(time.Since(began), err)
		for left := recordsEach; left > 0 && err == nil && ctx.Err() == nil; left -= batchMost {
			began := time.Now()
			err = ask(func(done func(answer, error)) error { return d.upload(backlog(min(left, batchMost)), done) })
			up.add(time.Since(began), err)
		}
	})
	return c.end(), up.end()
}

// backlog is so many records of sales that came to nothing.
func backlog(n int) []protocol.Record {
	var out []protocol.Record
	for len(out) < n {
		out = append(out, refused(protocol.SaleID(newEpoch()))...)
	}
	return out[:n]
}

// Reasons are the reasons of a phase's errors, the most frequent first.
func (p Phase) Reasons() []string {
	var out []string
	for what := range p.Errors {
		out = append(out, what)
	}
	slices.SortFunc(out, func(a, b string) int {
		if p.Errors[a] != p.Errors[b] {
			return p.Errors[b] - p.Errors[a]
		}
		return strings.Compare(a, b)
	})
	return out
}

// home spreads devices over addresses of the loopback network, 200 at each, as sites do: one address
// has ports for 28,000 connections, and a broker takes only so many strangers from one.
func home(i int) net.Addr {
	site := i / 200
	return &net.TCPAddr{IP: net.IPv4(127, 1, byte(site>>8), byte(site))}
}
