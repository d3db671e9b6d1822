package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/thermo"
	"coinop/hardware/virtual"
	"coinop/protocol/code"
	"coinop/protocol/money"
)

// faulty is a machine with an agent before it, in which something is broken.
type faulty struct {
	t       *testing.T
	dir     string
	file    string
	log     shared
	bus     *virtual.Machine
	change  func(*agent.Config)
	patient bool // buyers come although the bank cannot be asked
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{t: t, dir: t.TempDir()}
	f.file = f.at("agent.yaml")
	identity(t, f.at("identity"))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	return f
}

func (f *faulty) at(name string) string { return filepath.Join(f.dir, name) }

// serve lets a far end live until the test ends.
func (f *faulty) serve(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = run(ctx) })
	f.t.Cleanup(func() { cancel(); ends.Wait() })
}

// vending is a machine behind a Qibixx adapter.
func (f *faulty) vending() {
	f.bus = must[*virtual.Machine](f.t)(virtual.NewMachine(virtual.MachineConfig{
		Link: f.at("vmc"), Products: []virtual.Product{{Outlet: 11, Price: money.New(150, money.EUR)}},
	}))
	f.serve(f.bus.Run)
}

func (f *faulty) reader() *virtual.Reader {
	r := must[*virtual.Reader](f.t)(virtual.NewReader(virtual.ReaderConfig{Link: f.at("reader")}))
	f.serve(r.Run)
	return r
}

func (f *faulty) printer() *virtual.Printer {
	p := must[*virtual.Printer](f.t)(virtual.NewPrinter(virtual.PrinterConfig{Link: f.at("printer")}))
	f.serve(p.Run)
	return p
}

func (f *faulty) cash(tubes ...int) *virtual.Cash {
	c := must[*virtual.Cash](f.t)(virtual.NewCash(virtual.CashConfig{Link: f.at("cash"), Tubes: tubes}))
	f.serve(c.Run)
	return c
}

func (f *faulty) scanner() *virtual.Scanner {
	s := must[*virtual.Scanner](f.t)(virtual.NewScanner(f.at("scanner"), virtual.ScannerCR))
	f.serve(s.Run)
	return s
}

// writes the configuration. Lanes name their ports by what stands in the folder.
func (f *faulty) writes(lanes string) {
	f.t.Helper()
	lanes = strings.NewReplacer("VMC", f.at("vmc"), "READER", f.at("reader"), "PRINTER", f.at("printer"), "CASH", f.at("cash"), "SCANNER", f.at("scanner"), "BOARD", f.at("board")).Replace(lanes)
	text := fmt.Sprintf("identity: %s\ndata: %s\ncloud: 127.0.0.1:1\nlanes:\n%s\n", f.at("identity"), f.at("data"), lanes)
	if err := os.WriteFile(f.file, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// runs the agent on the configuration until its devices are ready.
func (f *faulty) runs(lanes string, devices ...string) {
	f.t.Helper()
	f.writes(lanes)
	if code, out, errs := call(f.t, nil, "config", "check", "--here", f.file); code != 0 {
		f.t.Fatalf("%s%s", out, errs)
	}
	cfg := f.config()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx, cfg) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	})
	f.until("its devices are ready", func(st agent.Status) bool {
		ready := []string{}
		for _, l := range st.Lanes {
			for _, d := range l.Devices {
				if d.State == "ready" {
					ready = append(ready, d.Name)
				}
			}
		}
		return st.Running == agent.IsRunning && !slices.ContainsFunc(devices, func(d string) bool { return !slices.Contains(ready, d) })
	})
}

func (f *faulty) config() agent.Config {
	f.t.Helper()
	a := must[configs.Agent](f.t)(configs.LoadAgent(f.file, nil))
	cfg := must[agent.Config](f.t)(fileOptions{ports: serialPorts}.config(a, &f.log))
	cfg.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	if f.patient {
		cfg.ModeAfter = time.Hour
	}
	if f.change != nil {
		f.change(&cfg)
	}
	return cfg
}

const faultMost = time.Minute // a machine that is shared

func (f *faulty) until(what string, ok func(agent.Status) bool) {
	f.t.Helper()
	var st agent.Status
	var err error
	for end := time.Now().Add(faultMost); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if st, err = agent.AskStatus(f.at("data")); err == nil && ok(st) {
			return
		}
	}
	f.t.Fatalf("never: %s; %+v %v", what, st.Lanes, err)
}

func (f *faulty) ok(errs ...error) {
	f.t.Helper()
	if err := errors.Join(errs...); err != nil {
		f.t.Fatal(err)
	}
}

// again does what cannot be done at once.
func (f *faulty) again(do func() error) {
	f.t.Helper()
	var err error
	for end := time.Now().Add(faultMost); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	f.t.Fatal(err)
}

// buyer presses a button and pays, again and again until the lane lets him: it may not be ready for him yet.
func (f *faulty) buyer(pays func() error) {
	f.t.Helper()
	f.again(func() error {
		_ = f.bus.Select(11) // while it sells already it says so
		return pays()
	})
}

// names waits until doctor names one of the codes at a part, within the time that it promises, and says its
// cause and what to do.
func (f *faulty) names(part string, want ...code.Code) {
	f.t.Helper()
	var d diagnosis
	for end := time.Now().Add(faultMost); ; time.Sleep(250 * time.Millisecond) {
		began := time.Now()
		status, out, errs := call(f.t, nil, "doctor", "--config", f.file, "--json")
		took := time.Since(began)
		d = diagnosis{}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			f.t.Fatalf("%v\n%s%s", err, out, errs)
		}
		i := slices.IndexFunc(d.Findings, func(n agent.Finding) bool { return n.Part == part && slices.Contains(want, n.Fault.Code) })
		if i < 0 {
			if time.Now().After(end) {
				f.t.Fatalf("doctor names no %v at %q:\n%s", want, part, out)
			}
			continue
		}
		n := d.Findings[i]
		if took > 3*time.Second {
			f.t.Errorf("it took %s", took)
		}
		if n.Fault.Cause == "" || n.Fault.Next == "" || n.Says == "" || n.Level == agent.LevelFail != (status == exitProblem) && d.Failures == 0 {
			f.t.Errorf("ends with %d: %+v", status, n)
		}
		_, text, _ := call(f.t, nil, "doctor", "--config", f.file)
		for _, line := range []string{string(n.Fault.Code) + ": " + n.Fault.Cause, "-> " + n.Fault.Next} {
			if !strings.Contains(text, line) {
				f.t.Errorf("the text does not say %q:\n%s", line, text)
			}
		}
		return
	}
}

const (
	laneVending = "  - vending: {driver: qibixx, port: VMC}\n"
	laneReader  = laneVending + "    reader: {driver: vivopay, port: READER}\n"
	lanePrinter = laneVending + "    printer: {driver: escpos, port: PRINTER}\n"
	laneCash    = laneVending + "    cash: {owner: agent, port: CASH}\n"
	laneScanner = laneVending + "    scanner: {driver: serial, port: SCANNER}\n"
)

// TestDoctorNamesFaults has a case for each row of the table of what fails in the field, injected at a virtual
// device: doctor names it, its cause and the next step, within three seconds.
func TestDoctorNamesFaults(t *testing.T) {
	t.Parallel()
	paper := func(trouble virtual.PrinterTrouble, want code.Code) func(*faulty) {
		return func(f *faulty) {
			p := f.printer()
			f.vending()
			f.runs(lanePrinter, "printer")
			p.Set(trouble)
			f.names("lane 0 printer", want)
		}
	}
	jam := func(fault virtual.CashFault, part string) func(*faulty) {
		return func(f *faulty) {
			c := f.cash(20, 20, 20, 20, 20, -1)
			f.vending()
			f.runs(laneCash, "cash coins", "cash bills")
			c.Misbehave(fault)
			f.names(part, code.CashJammed)
		}
	}
	// They wait for devices, so there are more at once than processors; and not so many that the start of all
	// agents takes a raw bus its time. The longest is first.
	var all sync.WaitGroup
	slots := make(chan struct{}, 6)
	for _, c := range []struct {
		row string
		do  func(*faulty)
	}{
		{"printer hang", paper(virtual.PrinterTrouble{Hung: true}, code.Silent)},
		{"paper near end", paper(virtual.PrinterTrouble{PaperLow: true}, code.PrinterPaperLow)},
		{"paper out", paper(virtual.PrinterTrouble{PaperOut: true}, code.PrinterPaperOut)},
		{"cover open", paper(virtual.PrinterTrouble{CoverOpen: true}, code.PrinterCoverOpen)},
		{"cutter stuck", paper(virtual.PrinterTrouble{Cutter: true}, code.PrinterCutter)},
		{"printer gone from the network", func(f *faulty) {
			p := must[*virtual.Printer](f.t)(virtual.NewPrinter(virtual.PrinterConfig{TCP: true}))
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			f.vending()
			f.runs(laneVending+"    printer: {address: "+p.Path()+"}\n", "printer")
			cancel()
			<-done
			f.names("lane 0 printer", code.PrinterRefused)
		}},
		{"USB device gone", func(f *faulty) {
			r := f.reader()
			f.vending()
			f.runs(laneReader, "reader")
			r.Unplug()
			f.names("lane 0 reader", code.PortLost, code.PortAbsent)
			f.ok(r.Replug())
			f.until("it is back under its name", func(st agent.Status) bool {
				return slices.ContainsFunc(st.Lanes[0].Devices, func(d agent.DeviceStatus) bool { return d.Name == "reader" && d.State == "ready" })
			})
		}},
		{"card torn in mid transaction", func(f *faulty) {
			r := f.reader()
			f.patient = true
			f.vending()
			f.runs(laneReader, "reader")
			r.Misbehave(virtual.ReaderTorn)
			f.buyer(func() error { return r.Tap(virtual.VisaTest()) })
			f.names("lane 0 reader", code.CardTorn)
		}},
		{"reader lost in mid authorization", func(f *faulty) {
			r := f.reader()
			f.patient = true
			f.vending()
			f.runs(laneReader, "reader")
			f.buyer(func() error { return r.Tap(virtual.VisaTest()) })
			r.Mute(true)
			f.names("lane 0 reader", code.Silent)
		}},
		{"MDB silence: the adapter", func(f *faulty) {
			f.vending()
			f.runs(laneVending, "vmc")
			f.ok(f.bus.Mute(true))
			f.names("lane 0 vmc", code.Silent)
		}},
		{"MDB silence: no POLL", func(f *faulty) {
			m := must[*virtual.Controller](f.t)(virtual.NewController(virtual.ControllerConfig{MachineConfig: virtual.MachineConfig{Link: f.at("vmc")}}))
			f.serve(m.Run)
			f.change = func(cfg *agent.Config) { cfg.ModeAfter = 100 * time.Millisecond }
			f.runs("  - vending: {driver: mdb-raw, port: VMC}\n", "vmc")
			f.ok(m.Off())
			f.names("lane 0 sells", code.VendingAway)
		}},
		{"coin jam", jam(virtual.CashJam, "lane 0 cash coins")},
		{"bill jam", jam(virtual.CashBillJam, "lane 0 cash bills")},
		{"tube low", func(f *faulty) {
			f.cash(0, 0, 1, 20, 20, -1)
			f.vending()
			f.runs(laneCash, "cash coins")
			f.names("lane 0 change", code.CashExact)
		}},
		{"partial payout", func(f *faulty) {
			c := f.cash(20, 20, 20, 20, 20, -1)
			f.vending()
			f.runs(laneCash, "cash coins")
			c.Misbehave(virtual.CashStuck)
			f.buyer(func() error { return c.Coin(5) })
			f.names("lane 0", code.CashOwed)
		}},
		{"double scan", func(f *faulty) {
			s := f.scanner()
			f.vending()
			f.runs(laneScanner, "scanner")
			f.ok(s.Show("4006381333931"))
			f.names("lane 0 scanner", code.ScannerNotTaken)
			time.Sleep(2600 * time.Millisecond) // by then it is no longer the same showing
			f.ok(s.Show("4006381333931"))
			f.names("lane 0 scanner", code.ScannerStale)
		}},
		{"tamper: the reader says so", func(f *faulty) {
			r := f.reader()
			f.vending()
			f.runs(laneReader, "reader")
			r.Say(0x03, 0x1D, nil)
			f.names("lane 0 tamper", code.Tamper)
		}},
		{"tamper: the loop is cut", func(f *faulty) {
			b := must[*virtual.Board](f.t)(virtual.NewBoard(virtual.BoardConfig{Link: f.at("board")}))
			f.ok(b.Hold(8, true)) // the loop is whole
			f.serve(b.Run)
			f.runs("  - vending: {driver: relay-board, port: BOARD, tamper: 8, outlets: [{number: 1, name: Dryer, price: 1.00, relay: 3, on: 500ms}]}\n", "outlets")
			f.ok(b.Hold(8, false))
			f.names("lane 0 tamper", code.Tamper)
		}},
		{"sensor nonsense", func(f *faulty) {
			f.vending()
			f.change = func(cfg *agent.Config) {
				cfg.Thermometers, cfg.ThermometersEvery = []thermo.Sensor{{Name: "cabinet", Open: func() (thermo.Source, error) { return atPowerOn{}, nil }}}, 20*time.Millisecond
			}
			f.runs(laneVending, "vmc")
			f.names("temperature cabinet", code.SensorLost)
		}},
		{"brown-out", func(f *faulty) {
			f.vending()
			f.writes(strings.ReplaceAll(laneVending, "VMC", f.at("vmc")))
			cmd := exec.Command(os.Args[0], "run", "--config", f.file) //nolint:gosec // ourselves
			cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asProgram+"=1"), &f.log, &f.log
			f.ok(cmd.Start())
			f.until("it runs", func(st agent.Status) bool { return st.Running == agent.IsRunning })
			f.ok(cmd.Process.Kill())
			_ = cmd.Wait()
			f.runs(laneVending, "vmc")
			f.names("agent", code.AgentUnclean)
		}},
	} {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			t.Run(c.row, func(t *testing.T) { c.do(newFaulty(t)) })
		})
	}
	all.Wait()
}

// atPowerOn is a thermometer that has lost its supply: it says 85 degrees, with a good checksum.
type atPowerOn struct{}

func (atPowerOn) Sense() (thermo.Milli, error) {
	return thermo.ParseW1([]byte("50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"))
}

func (atPowerOn) Close() error { return nil }
