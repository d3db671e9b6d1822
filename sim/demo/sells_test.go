package demo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/profile"
	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"
)

// buyer is what one does at a profile: chooses, by a command or as an order of an outlet, and pays by a command,
// where nothing but the device itself asks.
type buyer struct {
	choose string
	order  int
	pay    string
	by     protocol.AuthorizedBy
	minor  int64 // what it costs: at a relay board what setup writes as an example
}

var buyers = map[string]buyer{
	"snack":   {choose: "select 11", pay: "tap visa", by: protocol.ByHost, minor: 150},
	"coffee":  {choose: "select 12", pay: "tap mastercard", by: protocol.ByHost, minor: 220},
	"kiosk":   {choose: "select 12", pay: "coin 4", by: protocol.ByCash, minor: 220},
	"canteen": {choose: "select 11", pay: "coin 4", by: protocol.ByCash, minor: 150},
	"parking": {order: 1, by: protocol.ByTerminal, minor: 300},
	"locker":  {order: 2, by: protocol.ByTerminal, minor: 300},
	"laundry": {order: 3, pay: "tap", by: protocol.ByHost, minor: 300}, // its dryer: washers want more pulses than an example
}

// TestSetupSells: on each profile's bench setup writes a file with which the agent sells, as it was written: the item
// comes out, and the cloud's books have it.
func TestSetupSells(t *testing.T) {
	t.Parallel()
	bin := programs(t)
	f := &fleet{o: fleetOptions{Bin: bin, Dir: t.TempDir()}}
	defer func() {
		if err := f.down(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := f.place.OpenLedger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	for i, name := range profile.Names() {
		if _, err := f.place.AddDevice(t.Context(), f.path(name, "identity"), cloud.NewDevice{
			ID: protocol.DeviceID(name), Link: "bank", Merchant: acquirer.Merchant{
				TID: fmt.Sprint(20_000_001 + i), MID: "000000000012345", MCC: "5814", Country: "276", Location: "Bench",
			},
		}); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup // go test -parallel would let as many run as there are processors
	for _, name := range profile.Names() {
		all.Go(func() {
			began := time.Now()
			if err := sellsAsSetUp(t.Context(), f, st, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			t.Logf("%s: %.1f s", name, time.Since(began).Seconds())
		})
	}
	all.Wait()
	if _, unbalanced, err := readLedger(t.Context(), f.place); unbalanced != nil || err != nil {
		t.Error(unbalanced, err)
	}
}

// sellsAsSetUp sets one up, lets the agent run, and buys at it.
func sellsAsSetUp(ctx context.Context, f *fleet, st *store.Store, name string) (err error) {
	b, ok := buyers[name]
	if !ok {
		return errors.New("nobody buys here")
	}
	p, err := profile.Open(name, f.path(name, "bench"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	served := make(chan error, 1)
	go func() { served <- p.Run(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-served) }()
	file, data, ready := f.path(name, "agent.yaml"), f.path(name, "data"), f.path("run", name)
	if err := setUp(f, p, file, "--identity", f.path(name, "identity"), "--data", data, "--cloud", f.cloudAddr, "--currency", "EUR"); err != nil {
		return err
	}
	a, err := start(name, f.logOf(name), nil, nil, f.bin("coinop-agent"), "run", "--config", file, "--ready-file", ready)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if _, err := a.ready(ctx, ready); err != nil {
		return err
	}
	choose := func() error { _, err := p.Do(b.choose); return err }
	if b.order > 0 {
		choose = func() error { return order(ctx, data, b.order) }
	}
	var chosen time.Time
	var refused error // who is not ready yet, or sells, refuses
	for sold := []payment.Payment(nil); len(sold) == 0; {
		switch {
		case p.Gave() > 0:
			if sold, err = soldBy(ctx, st, protocol.DeviceID(name)); err != nil {
				return err
			}
		case time.Since(chosen) > 200*time.Millisecond:
			chosen = time.Now()
			refused = choose()
		case b.pay != "":
			_, _ = p.Do(b.pay)
		}
		if !sleep(ctx, 20*time.Millisecond) || !a.alive() {
			return fmt.Errorf("gave %d, and the books have no sale; the last choice: %v\n%s\n%s", p.Gave(), refused, lastLines(file, 40), lastLines(a.log, 30))
		}
		if len(sold) > 0 && (len(sold) != p.Gave() || cmp.Or(sold[0].By, protocol.ByHost) != b.by || sold[0].Captured.Minor != b.minor) {
			return fmt.Errorf("gave %d, books %+v, want %d by %v", p.Gave(), sold, b.minor, b.by)
		}
	}
	return nil
}

// setUp runs setup as a technician does who knows what the flags say, and nothing of the devices but a terminal's address.
func setUp(f *fleet, p *profile.Profile, file string, flags ...string) error {
	args := append([]string{"setup", "--port", p.Dir + "/*", "--out", file}, flags...)
	for _, d := range p.Devices {
		if d.Driver == "zvt" {
			args = append(args, "--terminal", d.Path)
		}
	}
	out, err := exec.Command(f.bin("coinop-agent"), args...).CombinedOutput() //nolint:gosec // ours
	// It ends with 1 where it names what a person has to look at: a board's outlets, what only the kernel has named.
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 1 && (bytes.Contains(out, []byte("setup.outlets")) || bytes.Contains(out, []byte("setup.name_only"))) {
		err = nil
	}
	if err == nil && !bytes.Contains(out, []byte("wrote "+file)) {
		err = errors.New("wrote nothing")
	}
	if err != nil {
		return fmt.Errorf("setup: %w\n%s", err, out)
	}
	return nil
}

// order is one of an outlet, as a program of this box makes it.
func order(ctx context.Context, data string, outlet int) error {
	addr, err := os.ReadFile(filepath.Join(data, agent.ScreenFile))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+strings.TrimSpace(string(addr))+"/v1/orders",
		strings.NewReader(fmt.Sprintf(`{"lane": 0, "lines": [{"outlet": %d}]}`, outlet)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("order: %s", res.Status)
	}
	return nil
}

// soldBy are the payments of a device that were taken.
func soldBy(ctx context.Context, st *store.Store, device protocol.DeviceID) (out []payment.Payment, err error) {
	all, err := payments(ctx, st)
	for _, p := range all {
		if p.Device == device && p.State == payment.Captured {
			out = append(out, p)
		}
	}
	return out, err
}
