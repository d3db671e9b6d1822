package sim_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/session"
	"coinop/cloud/store"
	"coinop/protocol"
	"coinop/protocol/money"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is a line that can be made bad, both ways.
type wire struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

func newWire(t *testing.T) *wire { return &wire{t: t} }

func init() { zerolog.SetGlobalLevel(zerolog.Disabled) } // toxics log past their server's logger

// to leads the wire to an address and returns the near end's.
func (w *wire) to(upstream string) string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port: toxiproxy tells its own only by name
	if err != nil {
		w.t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	w.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), w.t.Name(), addr, upstream)
	if err := w.proxy.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.proxy.Stop)
	return addr
}

// spoil adds a toxic to both directions.
func (w *wire) spoil(kind, attributes string) {
	w.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		_, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name":%q,"type":%q,"stream":%q,"toxicity":1,"attributes":{%s}}`, kind+stream, kind, stream, attributes)))
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *wire) mend(ctx context.Context) { w.proxy.Toxics.ResetToxics(ctx) }

// patience is how long a sale may take from the tap to its end: the wait for an answer, and a little.
const patience = 10*time.Second + 2*time.Second

// TestBadLinks: whatever a line does, a waiting buyer is told within the wait, and afterwards what was
// charged is what fell.
func TestBadLinks(t *testing.T) {
	t.Parallel()
	const ( // the line that is bad
		machine = iota
		bank
		broker // between a broker elsewhere and the cloud
	)
	for _, c := range []struct {
		name, kind, attributes string
		line                   int
		on                     engine
	}{
		{"latency and jitter", "latency", `"latency":300,"jitter":200`, machine, own},
		{"64 kbit/s", "bandwidth", `"rate":8`, machine, own},
		{"small pieces", "slicer", `"average_size":40,"size_variation":30,"delay":2000`, machine, own},
		{"reset", "reset_peer", `"timeout":700`, machine, own},
		{"cut in the middle", "limit_data", `"bytes":5000`, machine, own},
		{"closes slowly", "slow_close", `"delay":1500`, machine, own},
		{"half-open", "timeout", `"timeout":0`, machine, own},
		{"bank: latency and jitter", "latency", `"latency":600,"jitter":400`, bank, own},
		{"bank: 64 kbit/s", "bandwidth", `"rate":8`, bank, own},
		{"bank: reset", "reset_peer", `"timeout":500`, bank, own},
		{"bank: cut in the middle", "limit_data", `"bytes":700`, bank, own},
		{"bank: half-open", "timeout", `"timeout":0`, bank, own},
		{"mosquitto: reset", "reset_peer", `"timeout":700`, machine, other},
		{"mosquitto: half-open", "timeout", `"timeout":0`, machine, other},
		{"mosquitto to the cloud: latency and jitter", "latency", `"latency":300,"jitter":200`, broker, other},
		{"mosquitto to the cloud: 64 kbit/s", "bandwidth", `"rate":8`, broker, other},
		{"mosquitto to the cloud: reset", "reset_peer", `"timeout":700`, broker, other},
		{"mosquitto to the cloud: cut in the middle", "limit_data", `"bytes":5000`, broker, other},
		{"mosquitto to the cloud: half-open", "timeout", `"timeout":0`, broker, other},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var wires [3]*wire
			for i := range wires {
				wires[i] = newWire(t)
			}
			w := newWorld(t, c.on, lines{machine: wires[machine].to, bank: wires[bank].to, broker: wires[broker].to})
			if s := w.machine.sell(150, true); s.how != protocol.Sold {
				t.Fatalf("before anything is wrong: %s", s.how)
			}
			bad := wires[c.line]
			bad.spoil(c.kind, c.attributes)
			ends := map[string]int{}
			for began, n := time.Now(), int64(0); n < 6 && time.Since(began) < 12*time.Second; n++ {
				how, took := w.machine.buy(t, 200+n)
				if ends[how]++; took > patience {
					t.Errorf("a buyer waited %s: %s", took, how)
				}
			}
			if c.kind == "timeout" && c.line == machine {
				w.machine.noticed(t, 45*time.Second+2*time.Second)
			}
			bad.mend(t.Context())
			// The line to the bank is tried again after a pause; until then a card is refused.
			again := w.machine.sell(170, true)
			for end := time.Now().Add(20 * time.Second); again.how != protocol.Sold && time.Now().Before(end); {
				time.Sleep(time.Second)
				again = w.machine.sell(170, true)
			}
			if again.how != protocol.Sold {
				t.Errorf("after it was mended: %s", again.how)
			}
			w.settled()
			t.Logf("while it was bad: %v", ends)
		})
	}
}

// buy is one buyer who comes whatever the line is like; how tells what became of the sale, or why there
// was none.
func (m *machine) buy(t *testing.T, minor int64) (how string, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	price := money.New(minor, money.EUR)
	began := time.Now()
	m.post(ctx, func() {
		m.works, m.after = true, m.jour.Head().Seq
		m.handle(agent.Lane{Event: session.BusState{State: session.BusStateEnabled, At: m.now().Mono}},
			agent.Chosen{Class: protocol.Live, Lines: []protocol.Line{{Product: "cola", Outlet: 5, Qty: 1, Unit: price, Amount: price}}})
	})
	for {
		type look struct {
			sale *sold
			idle bool
		}
		found := make(chan look, 1)
		m.post(ctx, func() {
			st, _ := m.dev.LaneState(0)
			found <- look{m.closed(), st.Idle()}
		})
		select {
		case l := <-found:
			switch {
			case l.sale != nil:
				return l.sale.how.String(), time.Since(began)
			case l.idle && time.Since(began) > 50*time.Millisecond: // no link, no card: nothing was written
				time.Sleep(300 * time.Millisecond)
				return "no cards now", time.Since(began)
			}
		case <-ctx.Done():
			t.Fatalf("the sale of %s does not end", price)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// noticed waits until the machine knows that its connection is dead.
func (m *machine) noticed(t *testing.T, within time.Duration) {
	t.Helper()
	began := time.Now()
	for time.Since(began) < within {
		lost := make(chan int, 1)
		m.post(t.Context(), func() { lost <- m.lost })
		if <-lost > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("a dead connection was not noticed within %s", within)
}

// settled waits until every payment has come to its end, and compares: what fell, what the bank has
// debited, what the ledger says.
func (w *world) settled() {
	w.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		open, err := w.st.OpenOps(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		ps, err := w.st.Payments(w.t.Context(), store.PaymentFilter{}, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		live := open
		for _, p := range ps {
			if !p.State.Final() {
				live++
			}
		}
		if live == 0 {
			break
		}
		if time.Now().After(end) {
			w.t.Fatalf("%d things are still open", live)
		}
	}
	fell := make(chan int64, 1)
	w.machine.post(w.t.Context(), func() { fell <- w.machine.fell })
	w.books(<-fell)
}
