package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"coinop/cloud"
	"coinop/cloud/acquirer/hostsim"
	"coinop/cloud/broker"
	"coinop/cloud/payment"
	"coinop/cloud/store"
	"coinop/protocol"
)

// serve runs a bank and a cloud until the test ends.
func serve(t *testing.T, bank *hostsim.Bank) (cloud.Place, string) {
	t.Helper()
	host, err := hostsim.Open(hostsim.Config{Bank: bank})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	place, ready, ended := cloud.Place{Dir: t.TempDir()}, make(chan string, 1), make(chan error, 2)
	go func() { ended <- host.Run(ctx) }()
	go func() {
		ended <- cloud.Run(ctx, cloud.Config{
			Dir: place.Dir, Listen: "127.0.0.1:0", Ready: func(a string) { ready <- a }, Rate: broker.Rate{Messages: 1e6, MessagesBurst: 1e6},
			Acquirers: []cloud.Acquirer{{Name: "bank", Addr: host.Addr(), Institution: "1"}},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case addr := <-ready:
		return place, addr
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	panic("unreachable")
}

func (p Phase) clean(t *testing.T, least int) {
	t.Helper()
	if p.Failed() > 0 || p.Done < least || least > 0 && (p.P50MS <= 0 || p.P99MS < p.P50MS || p.PerSecond <= 0) {
		t.Errorf("%+v", p)
	}
}

// What the fleet says it did is what the cloud holds.
func TestFleet(t *testing.T) {
	t.Parallel()
	const devices, flood = 8, 100
	place, addr := serve(t, nil)
	f, err := Open(t.Context(), Options{Addr: addr, Place: place, Devices: devices, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Connect(t.Context(), 4).clean(t, devices)
	if n := f.Connected(); n != devices {
		t.Fatalf("%d connected", n)
	}
	if err := f.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Prepare(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	fast := f.Drive(t.Context(), Pace{InFlight: 4, For: 300 * time.Millisecond})
	fast.clean(t, 4)
	even := f.Drive(t.Context(), Pace{Rate: 20, For: 500 * time.Millisecond})
	even.clean(t, 8)
	if even.Done > 13 {
		t.Errorf("%d authorizations at 20/s for half a second", even.Done)
	}
	paid := 1 + fast.Done + even.Done // Ready's too
	custody := f.Custody(t.Context(), devices)
	custody.clean(t, paid)
	comes, told := f.Flood(t.Context(), flood, devices)
	comes.clean(t, devices)
	told.clean(t, 2*devices)
	st, err := store.Open(t.Context(), store.Options{Path: place.Dir + "/ledger.db"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	records := protocol.Seq(0)
	for i := range devices {
		h, err := st.Head(t.Context(), protocol.DeviceID(fmt.Sprintf("load-%d", i+1)))
		if err != nil || h.Stopped != "" {
			t.Fatal(err, h)
		}
		records += h.Position.Seq
	}
	if want := protocol.Seq(devices*(1+flood) + 7*paid); records != want {
		t.Errorf("the cloud holds %d records, want %d", records, want)
	}
	for _, s := range []payment.State{payment.Approved, payment.InCase} {
		left, err := st.Payments(t.Context(), store.PaymentFilter{State: s}, 10)
		if err != nil || len(left) > 0 {
			t.Errorf("%d payments are %s after custody (%v)", len(left), s, err)
		}
	}
	if odd, err := st.Incidents(t.Context()); err != nil || len(odd) > 0 {
		t.Errorf("incidents: %v %v", odd, err)
	}
}

// What is no approval is an error, by its reason; devices that are turned away are not connected.
func TestErrors(t *testing.T) {
	t.Parallel()
	decline, err := hostsim.ParseBehavior("decline:51")
	if err != nil {
		t.Fatal(err)
	}
	behave := func(now time.Time, _ hostsim.Summary) hostsim.Behavior { return decline }
	place, addr := serve(t, hostsim.NewBank(hostsim.Options{Behave: behave}))
	f, err := Open(t.Context(), Options{Addr: addr, Place: place, Devices: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Connect(t.Context(), 2).clean(t, 2)
	const declined = "declined final"
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); { // the link signs on meanwhile
		if f.Drive(t.Context(), Pace{InFlight: 1, For: 20 * time.Millisecond}).Errors[declined] > 0 {
			break
		}
	}
	p := f.Drive(t.Context(), Pace{Rate: 2000, For: 200 * time.Millisecond})
	if p.Done != 0 || p.Errors[NoDevice] == 0 || p.Errors[declined] == 0 {
		t.Errorf("%+v", p)
	}
	// The same names again get new certificates: the old ones are good for nothing.
	again, err := Open(t.Context(), Options{Addr: addr, Place: place, Devices: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for _, d := range f.devices {
		d.close()
	}
	if p := f.Connect(t.Context(), 2); p.Done != 0 || p.Failed() != 2 {
		t.Errorf("with old certificates: %+v", p)
	}
	again.Connect(t.Context(), 2).clean(t, 2)
	if _, err := Open(t.Context(), Options{Addr: addr, Place: place}); err == nil {
		t.Error("no devices")
	}
	if _, err := Open(t.Context(), Options{Addr: "nowhere", Place: place, Devices: 1}); err == nil {
		t.Error("no port")
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	var s, other Spans
	if s.Percentile(0.5) != 0 {
		t.Error("of nothing")
	}
	for i := range 1000 {
		s.Add(time.Duration(i+1) * time.Millisecond)
	}
	other.Add(20 * time.Minute)
	other.Add(0)
	s.Join(&other)
	for p, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 991 * time.Millisecond, 1: 20 * time.Minute} {
		if got := s.Percentile(p); got < want*97/100 || got > want*103/100 {
			t.Errorf("p%.0f: %s, want about %s", 100*p, got, want)
		}
	}
	if s.Count() != 1002 {
		t.Error(s.Count())
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	began, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if now, err := CPU(os.Getpid()); err != nil || now > began+20*time.Millisecond {
			break
		}
	}
	if now, err := CPU(os.Getpid()); err != nil || now <= began {
		t.Errorf("%s then %s: %v", began, now, err)
	}
	if n, err := RSS(os.Getpid()); err != nil || n < 1<<20 {
		t.Errorf("%d bytes: %v", n, err)
	}
	if _, err := CPU(1 << 30); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
