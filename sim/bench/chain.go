package bench

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/identity"
	"coinop/protocol"
	"coinop/protocol/money"
	"coinop/protocol/seal"
	"coinop/sim/load"
)

// The chain: lean devices and a bank in this process, the cloud in one of its own, all on the same CPUs.
const (
	manyDevices = 512
	manyAtATime = 256 // in flight when it is saturated
)

// Limits of the chain. The first are measured elsewhere, on two weak cores.
const (
	roundTrip    = 330 * time.Microsecond // MQTT, one in flight, a client like an agent's: p50
	mqttCPU      = 112.0                  // µs of a broker's CPU for a round trip, mutual TLS, 64 in flight
	isoCPU       = 1.0                    // µs to pack and unpack, by hand
	unitsOfAnAsk = 2                      // sent, answered
	unitsOfASale = 6                      // of 3 rows each: 7 records, the head, and what a capture and its answer change
	limitOfOne   = "MQTT round trip 0.33 ms + 2 synced writes of this run"
	// A bare chain of the same parts, without what makes them safe, measured 175 to 225 µs saturated, 210
	// to 340 paced, and 6,500/s.
	targetRate, targetBusy, targetPaced = 5000.0, 220.0, 350.0
)

// bench of the chain.
type chain struct {
	r     *Report
	o     Options
	far   *process
	fleet *load.Fleet
	seal  time.Duration // opening a card, a message, and sealing one: measured alone
	bare  time.Duration // one unit of the bare engine
}

// authorizations asks through the whole chain: with one in flight, saturated, and at half of that.
func (r *Report) authorizations(ctx context.Context, o Options, dir string, raw, bare time.Duration) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host, err := hostsim.Open(hostsim.Config{})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = host.Run(ctx) })
	c := &chain{r: r, o: o, bare: bare}
	if c.far, err = startFar(ctx, o.Self, "cloud", dir, host.Addr()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.far.stop()) }()
	if c.fleet, err = load.Open(ctx, load.Options{Addr: c.far.addr, Place: cloud.Place{Dir: dir}, Devices: min(manyDevices, 2*o.Devices)}); err != nil {
		return err
	}
	defer c.fleet.Close()
	if p := c.fleet.Connect(ctx, 64); p.Failed() > 0 {
		return fmt.Errorf("devices that do not connect: %v", p.Errors)
	}
	if err := c.fleet.Ready(ctx); err != nil { // the link to the bank signs on meanwhile
		return err
	}
	if c.seal, err = sealing(o.For / 10); err != nil {
		return err
	}
	return errors.Join(c.one(ctx, raw), c.many(ctx), c.custody(ctx))
}

// drive asks for authorizations, and says how much CPU the cloud spent on each, in µs. With a profile, how
// much of it where.
func (c *chain) drive(ctx context.Context, p load.Pace, cards int, profile string) (load.Phase, float64, error) {
	if err := c.fleet.Prepare(ctx, cards); err != nil {
		return load.Phase{}, 0, err
	}
	if profile != "" {
		if err := c.far.do("profile " + profile); err != nil {
			return load.Phase{}, 0, err
		}
	}
	was, err := load.CPU(c.far.pid())
	if err != nil {
		return load.Phase{}, 0, err
	}
	ph := c.fleet.Drive(ctx, p)
	now, err := load.CPU(c.far.pid())
	if err == nil && profile != "" {
		err = c.far.do("end")
	}
	// A machine that stands still for a moment finds no device free for what it should have asked meanwhile: that
	// is of the load, not of the cloud.
	busy := ph.Errors[load.NoDevice]
	if err == nil && (ph.Done == 0 || (ph.Failed()-busy)*20 > ph.Done || busy > ph.Done) {
		err = fmt.Errorf("%s: %d done, errors: %v", ph.Name, ph.Done, ph.Errors)
	}
	return ph, float64((now - was).Microseconds()) / float64(max(ph.Done, 1)), err
}

func (c *chain) cards(rate float64) int { return int(rate*c.o.For.Seconds()) + 1 }

func (c *chain) one(ctx context.Context, raw time.Duration) error {
	p, _, err := c.drive(ctx, load.Pace{InFlight: 1, For: c.o.For}, c.cards(1000), "")
	if err != nil {
		return err
	}
	floor := roundTrip + unitsOfAnAsk*raw
	c.r.less("authorization, 1 in flight, p50", p.P50MS, "ms", ms(floor), limitOfOne)
	c.r.less("authorization, 1 in flight, p99", p.P99MS, "ms", ms(floor), limitOfOne)
	return nil
}

func (c *chain) many(ctx context.Context) error {
	file := filepath.Join(c.o.Dir, "cpu.pprof")
	p, busy, err := c.drive(ctx, load.Pace{InFlight: manyAtATime, For: c.o.For}, c.cards(6000), file)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("authorizations, %d in flight", manyAtATime)
	c.r.more(name, p.PerSecond, "/s", targetRate, "what is wanted of 2 CPUs with load and bank; a bare chain of the same parts: 6,500")
	c.r.less(name+", p50", p.P50MS, "ms", manyAtATime/targetRate*1000, "as many at that rate")
	c.r.less(name+", p99", p.P99MS, "ms", manyAtATime/targetRate*1000, "as many at that rate")
	if err := c.stages("saturated", busy, targetBusy, "what is wanted; a bare chain of the same parts: 175 to 225", file); err != nil {
		return err
	}
	half := p.PerSecond / 2
	paced, cpu, err := c.drive(ctx, load.Pace{Rate: half, For: c.o.For}, c.cards(half), file)
	if err != nil {
		return err
	}
	c.r.less("authorization at half that rate, p50", paced.P50MS, "ms", ms(roundTrip), "MQTT round trip, one in flight")
	return c.stages("at half that rate", cpu, targetPaced, "what is wanted; a bare chain of the same parts: 210 to 340", file)
}

// stages says where the CPU of an authorization went, each stage beside what it would cost at least.
func (c *chain) stages(how string, cpu, target float64, against, file string) error {
	shares, tops, err := byStage(file)
	if err != nil {
		return err
	}
	c.r.less("cloud CPU per authorization, "+how, cpu, "µs", target, against)
	for _, s := range stages {
		v := shares[s] * cpu
		switch s {
		case stageBroker:
			c.r.less("· "+s, v, "µs", mqttCPU, "mochi alone, mutual TLS, 64 in flight")
		case stageSeal:
			c.r.less("· "+s, v, "µs", us(c.seal), "card and message opened, answer sealed: alone, same run")
		case stageStore:
			c.r.less("· "+s, v, "µs", unitsOfAnAsk*us(c.bare), "2 units of the bare grouped engine, same run")
		case stageISO:
			c.r.less("· "+s, v, "µs", isoCPU, "packed and unpacked by hand")
		default:
			c.r.less("· "+s, v, "µs", v, "itself: there is no bare one")
		}
	}
	if c.r.Top == nil {
		c.r.Top = map[string][]top{}
	}
	c.r.Top[how] = tops
	return nil
}

// custody uploads sales that were approved and delivered.
func (c *chain) custody(ctx context.Context) error {
	c.fleet.Keep(true)
	p, _, err := c.drive(ctx, load.Pace{InFlight: manyAtATime, For: c.o.For / 2}, c.cards(3000), "")
	c.fleet.Keep(false)
	if err != nil {
		return err
	}
	was, err := load.CPU(c.far.pid())
	if err != nil {
		return err
	}
	up := c.fleet.Custody(ctx, manyAtATime)
	now, err := load.CPU(c.far.pid())
	if err == nil && (up.Done != p.Done || up.Failed() > 0) {
		err = fmt.Errorf("custody of %d sales: %d, errors: %v", p.Done, up.Done, up.Errors)
	}
	if err != nil {
		return err
	}
	verify, err := verifying(c.o.For / 20)
	if err != nil {
		return err
	}
	least := us(verify) + unitsOfASale*us(c.bare)
	c.r.less("custody of a sale: cloud CPU", float64((now-was).Microseconds())/float64(up.Done), "µs", least,
		"1 signature verified + 6 units of the bare engine (18 rows: 7 records, capture, its answer), same run")
	c.r.more("custody: sales", up.PerSecond, "/s", 1e6/least, "that on one CPU")
	return nil
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// timed calls do for a span and says how long each took.
func timed(span time.Duration, do func() error) (time.Duration, error) {
	began, n := time.Now(), 0
	for time.Since(began) < span || n == 0 {
		if err := do(); err != nil {
			return 0, err
		}
		n++
	}
	return time.Since(began) / time.Duration(n), nil
}

// sealing is what every authorization needs opened and sealed, done alone.
func sealing(span time.Duration) (time.Duration, error) {
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		return 0, err
	}
	b, err := ca.Device("bench", time.Now(), identity.Cloud{})
	if err != nil {
		return 0, err
	}
	relay, err1 := seal.NewPrivateKey()
	pay, err2 := seal.NewPrivateKey()
	if err := errors.Join(err1, err2); err != nil {
		return 0, err
	}
	device, err := seal.NewChannel(b.Signer(), seal.Ticket{Device: "bench", CertSerial: b.Serial, Connection: 1}, relay.Public())
	if err != nil {
		return 0, err
	}
	_, far, err := seal.OpenTicket(device.Ticket(), func(protocol.DeviceID, string) (*ecdsa.PublicKey, error) { return &b.Key.PublicKey, nil }, relay)
	if err != nil {
		return 0, err
	}
	const buyers = 64 // of one device, one after the other
	sealer, cards := seal.NewCardSealer(pay.Public()), make([][]byte, buyers)
	for i := range cards {
		if cards[i], err = sealer.Seal(nil, make([]byte, 80)); err != nil {
			return 0, err
		}
	}
	up, dn := protocol.TopicOf("bench", protocol.UpAuth), protocol.TopicOf("bench", protocol.DnAuth)
	msg, err := device.Seal(up, make([]byte, 500))
	if err != nil {
		return 0, err
	}
	n, opener := 0, seal.NewCardOpener(pay)
	return timed(span, func() error {
		if n++; n == buyers {
			n, opener = 0, seal.NewCardOpener(pay)
		}
		_, err1 := opener.OpenCard(cards[n], nil)
		_, err2 := far.Open(up, msg)
		_, err3 := far.Seal(dn, make([]byte, 200))
		return errors.Join(err1, err2, err3)
	})
}

// verifying is one batch's signature.
func verifying(span time.Duration) (time.Duration, error) {
	ca, err := identity.NewAuthority(time.Now())
	if err != nil {
		return 0, err
	}
	b, err := ca.Device("bench", time.Now(), identity.Cloud{})
	if err != nil {
		return 0, err
	}
	topic := protocol.TopicOf("bench", protocol.UpJournal)
	msg, err := b.Signer().Sign(topic, protocol.MustEncode(money.New(1, money.EUR)), nil)
	if err != nil {
		return 0, err
	}
	return timed(span, func() error {
		s, err := seal.ParseSigned(msg)
		if err == nil {
			_, err = s.Verify(topic, &b.Key.PublicKey)
		}
		return err
	})
}
