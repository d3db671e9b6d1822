package hardwaretest

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"coinop/hardware"
	"coinop/hardware/dex"
	"coinop/hardware/escpos"
	"coinop/hardware/magstripe"
	"coinop/hardware/mdb"
	board "coinop/hardware/outlet"
	"coinop/hardware/scanner"
	"coinop/hardware/terminal"
	"coinop/hardware/virtual"
	"coinop/hardware/vivopay"
	"coinop/protocol"
	"coinop/protocol/money"
)

// childVar holds the tty of a child that is the agent, to be killed.
const childVar = "COINOP_HARDWARETEST_TTY"

func TestMain(m *testing.M) {
	if tty := os.Getenv(childVar); tty != "" {
		child(tty)
		return
	}
	// These tests wait much more than they work; as many at a time as there are CPUs would take minutes. More
	// than this begin all at once, and then a byte that has a time comes too late.
	flag.StringVar(&Device, "device", "", "a real `device`: its tty, hidraw node, I2C bus, host:port, or name behind pcscd; -run chooses the suite")
	flag.Parse()
	if Device != "" && flag.Lookup("test.run").Value.String() == "" {
		fmt.Fprintln(os.Stderr, "-device is for one suite: -run chooses it")
		os.Exit(2)
	}
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func qibixx(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error) {
	q, err := mdb.NewQibixx(mdb.CashlessConfig{Config: mdb.Config{Path: path}, BusEpoch: epoch, Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}}, out)
	if err != nil {
		return nil, nil, err
	}
	return q, q.Open, nil
}

func TestQibixx(t *testing.T) {
	t.Parallel()
	Vender(t, qibixx, Adapter, true)
	Accounts(t, qibixx, Adapter)
}

func outlets(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error) {
	b, err := board.New(board.Config{
		Path: path, BusEpoch: epoch, Currency: money.EUR,
		Outlets: []board.Outlet{
			{Number: Washer, Price: OutletPrice(Washer), Relay: 1, Pulses: 3, Off: 200 * time.Millisecond, Feedback: 1, Window: time.Second, Button: 5},
			{Number: Chair, Price: OutletPrice(Chair), Relay: 2, On: HoldTime},
			{Number: Dispenser, Price: OutletPrice(Dispenser), Relay: 3, Button: 6},
		},
	}, out)
	if err != nil {
		return nil, nil, err
	}
	return b, b.Open, nil
}

func TestOutlets(t *testing.T) {
	t.Parallel()
	Outlets(t, outlets)
}

// TestCashless: the device itself, before controllers of level 3 that count in 16 and in 32 bits.
func TestCashless(t *testing.T) {
	t.Parallel()
	cashless := func(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error) {
		c, err := mdb.NewCashless(mdb.CashlessConfig{Config: mdb.Config{Path: path}, BusEpoch: epoch, Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}, Language: "fr"}, out)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Open, nil
	}
	t.Run("16 bit", func(t *testing.T) { t.Parallel(); Vender(t, cashless, Bus(3, false), false) })
	t.Run("32 bit", func(t *testing.T) { t.Parallel(); Vender(t, cashless, Bus(3, true), false) })
	t.Run("accounts", func(t *testing.T) { t.Parallel(); Accounts(t, cashless, Bus(3, false)) })
	t.Run("multi currency", func(t *testing.T) { t.Parallel(); Currencies(t, cashless, "fr", "1978") })
}

// TestWaferstar: the same device behind an adapter that answers POLLs for it.
func TestWaferstar(t *testing.T) {
	t.Parallel()
	wafer := func(path string, epoch uint64, out func(hardware.Event)) (hardware.Vender, func(context.Context) (hardware.Driver, error), error) {
		w, err := mdb.NewWaferstar(mdb.CashlessConfig{Config: mdb.Config{Path: path}, BusEpoch: epoch, Scale: mdb.Scale{Currency: money.EUR, Decimals: 2}}, out)
		if err != nil {
			return nil, nil, err
		}
		return w, w.Open, nil
	}
	t.Run("16 bit", func(t *testing.T) { t.Parallel(); Vender(t, wafer, Wafer(3, false), true) })
	t.Run("32 bit", func(t *testing.T) { t.Parallel(); Vender(t, wafer, Wafer(3, true), true) })
	t.Run("accounts", func(t *testing.T) { t.Parallel(); Accounts(t, wafer, Wafer(3, true)) })
}

func newVivopay(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error) {
	r, err := vivopay.New(vivopay.Config{
		Path: path, Currency: money.EUR,
		Settings: []vivopay.Frame{{Cmd: 0x04, Sub: 0x03, Data: []byte{0xDF, 0xEE, 0x1A, 1, 0x57}}, {Cmd: 0x77, Sub: 1}},
	}, out)
	if err != nil {
		return nil, nil, err
	}
	return r, r.Open, nil
}

func TestVivopay(t *testing.T) {
	t.Parallel()
	t.Run("serial", func(t *testing.T) { t.Parallel(); CardReader(t, newVivopay, virtual.ReaderConfig{}) })
	t.Run("HID", func(t *testing.T) { t.Parallel(); CardReader(t, newVivopay, virtual.ReaderConfig{HID: true}) })
}

// TestVivopayLegacy: 02-01, whose answers are of another form.
func TestVivopayLegacy(t *testing.T) {
	t.Parallel()
	far, err := virtual.NewReader(virtual.ReaderConfig{Link: t.TempDir() + "/reader"})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	b := &readerBench{t: t, far: far, l: NewLog(t)}
	r, err := vivopay.New(vivopay.Config{Path: far.Path(), Currency: money.EUR, Legacy: true}, b.l.Out)
	must(t, err)
	b.r, b.stop = r, supervise(t, b.l, r.Open)
	b.ready()
	reads(t, b)
	fallsBack(t, b)
}

// TestVivopayEncrypts: what the reader encrypted passes through as it is, and nothing of the card is in clear.
func TestVivopayEncrypts(t *testing.T) {
	t.Parallel()
	for _, hid := range []bool{false, true} {
		far, err := virtual.NewReader(virtual.ReaderConfig{Link: t.TempDir() + "/reader", Cipher: true, HID: hid})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = far.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		b := &readerBench{t: t, far: far, l: NewLog(t)}
		r, open, err := newVivopay(far.Path(), b.l.Out)
		must(t, err)
		b.r, b.stop = r, supervise(t, b.l, open)
		health := Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
		if health.Detail != "630Z000001, VP3300-V1.01.118, setting 77-01 refused: 03" {
			t.Errorf("health says %q", health.Detail)
		}
		c := b.tap(virtual.VisaTest())
		if c.Scheme != "idtech" || len(c.Cipher) != 32 || len(c.KSN) != 10 || !c.Track2.IsZero() || c.Last4() != "" || c.AC != hardware.ARQC {
			t.Errorf("HID %t: read %v, scheme %q, %d bytes under a key of %d", hid, c, c.Scheme, len(c.Cipher), len(c.KSN))
		}
	}
}

// TestMagstripe: heads that type, at a serial line, and of two makes that encrypt.
func TestMagstripe(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]struct {
		head magstripe.Head
		kind virtual.StripeKind
		bank magstripe.Bank
	}{
		"keyboard": {magstripe.HeadKeyboard, virtual.StripeKeyboard, magstripe.BankClear},
		"serial":   {magstripe.HeadSerial, virtual.StripeSerial, magstripe.BankClear},
		"MagTek":   {magstripe.HeadMagTek, virtual.StripeMagTek, magstripe.BankEncrypted},
		"ID TECH":  {magstripe.HeadIDTECH, virtual.StripeIDTECH, magstripe.BankEncrypted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			StripeReader(t, h.kind, func(path string, out func(hardware.Event)) (hardware.CardReader, func(context.Context) (hardware.Driver, error), error) {
				r, err := magstripe.New(magstripe.Config{
					Path: path, Head: h.head, Currency: money.EUR, Gap: 300 * time.Millisecond, // a test's machine is slow
					Rules: magstripe.Rules{Bank: h.bank, Own: []magstripe.Range{{From: StripeOwn, To: StripeOwn}}},
				}, out)
				if err != nil {
					return nil, nil, err
				}
				return r, r.Open, nil
			})
		})
	}
}

// TestScanner: at a serial line with each suffix, as a keyboard, and with each maker's trigger.
func TestScanner(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind virtual.ScannerKind
		cfg  scanner.Config
	}{
		"CR":        {virtual.ScannerCR, scanner.Config{}},
		"CR LF":     {virtual.ScannerCRLF, scanner.Config{}},
		"no suffix": {virtual.ScannerBare, scanner.Config{}},
		"keyboard":  {virtual.ScannerKeyboard, scanner.Config{Keyboard: true}},
		"Honeywell": {virtual.ScannerHoneywell, scanner.Config{Trigger: scanner.Honeywell}},
		"Newland":   {virtual.ScannerNewland, scanner.Config{Trigger: scanner.Newland}},
		"GM65":      {virtual.ScannerGM65, scanner.Config{Trigger: scanner.GM65}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			Scanner(t, c.kind, func(path string, clock hardware.Clock, out func(hardware.Event)) (hardware.Scanner, func(context.Context) (hardware.Driver, error)) {
				cfg := c.cfg
				cfg.Path, cfg.Clock, cfg.Gap = path, clock, 300*time.Millisecond // a test's machine is slow
				s := scanner.New(cfg, out)
				return s, s.Open
			})
		})
	}
}

// TestESCPOS is not beside the others: to draw pages takes all there is of a machine, and a bus would have no time
// for its answers.
func TestESCPOS(t *testing.T) {
	mk := func(path string, proof time.Duration, out func(hardware.Event)) (hardware.Printer, func(context.Context) (hardware.Driver, error)) {
		p := escpos.New(escpos.Config{Path: path, Proof: proof}, out)
		return p, p.Open
	}
	t.Run("serial", func(t *testing.T) { t.Parallel(); Printer(t, mk, virtual.PrinterConfig{}) })
	t.Run("simple", func(t *testing.T) { t.Parallel(); Printer(t, mk, virtual.PrinterConfig{Simple: true}) })
	t.Run("TCP", func(t *testing.T) { t.Parallel(); Printer(t, mk, virtual.PrinterConfig{TCP: true}) })
}

// TestTCPTaken: a printer with a client resets the second, which gets its turn when the first has gone.
func TestTCPTaken(t *testing.T) {
	t.Parallel()
	far, err := virtual.NewPrinter(virtual.PrinterConfig{TCP: true})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	client := func() (*Log, *escpos.Printer, func()) {
		l := NewLog(t)
		p := escpos.New(escpos.Config{Path: far.Path()}, l.Out)
		return l, p, supervise(t, l, p.Open)
	}
	isReady := func(e hardware.Health) bool { return e.State == hardware.Ready }
	first, _, leave := client()
	Next(first, isReady)
	second, p, _ := client()
	Next[hardware.PortGone](second, nil)
	if far.View().Resets == 0 {
		t.Error("nobody was reset")
	}
	leave()
	Next(second, isReady)
	must(t, p.Print(1, aPage(1)))
	if e := Next[hardware.Printed](second, nil); e.Reason != "" {
		t.Errorf("ended as %q", e.Reason)
	}
}

func TestCash(t *testing.T) {
	t.Parallel()
	Cash(t, cashAt(mdb.PortRaw), nil)
	CashLate(t, cashAt(mdb.PortRaw))
}

// TestCashAtAdapter: the same devices behind adapters that are the master for us.
func TestCashAtAdapter(t *testing.T) {
	t.Parallel()
	t.Run("Qibixx", func(t *testing.T) { t.Parallel(); Cash(t, cashAt(mdb.PortQibixx), virtual.NewAdapter) })
	t.Run("Waferstar", func(t *testing.T) { t.Parallel(); Cash(t, cashAt(mdb.PortWaferstar), virtual.NewWaferAdapter) })
}

func cashAt(p mdb.Port) NewCash {
	return func(path string, out func(hardware.Event)) (hardware.Cash, func(context.Context) (hardware.Driver, error), error) {
		c, err := mdb.NewCash(mdb.CashConfig{Config: mdb.Config{Path: path, Port: p}, Currency: money.EUR}, out)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Open, nil
	}
}

func TestDEX(t *testing.T) {
	t.Parallel()
	Audit(t, func(path string, out func(hardware.Event)) (hardware.Audit, func(context.Context) (hardware.Driver, error), error) {
		r, err := dex.New(dex.Config{Path: path}, out)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Open, nil
	})
}

// TestZVT: as purchases, and as holds.
func TestZVT(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]bool{"purchases": false, "holds": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			Terminal(t, func(address string, finish time.Duration, out func(hardware.Event)) (hardware.Terminal, func(context.Context) (hardware.Driver, error), error) {
				z, err := terminal.New(terminal.Config{Address: address, Currency: money.EUR, Hold: hold, Finish: finish}, out)
				if err != nil {
					return nil, nil, err
				}
				return z, z.Open, nil
			}, TerminalCan{Hold: hold})
		})
	}
}

// TestBusReader: a cashless reader at the bus, as a terminal; with the card first, and always idle.
func TestBusReader(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"card first": true, "always idle": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			Terminal(t, busReader, TerminalCan{Session: true, CardFirst: first})
		})
	}
}

func busReader(path string, _ time.Duration, out func(hardware.Event)) (hardware.Terminal, func(context.Context) (hardware.Driver, error), error) {
	r, err := mdb.NewReader(mdb.ReaderConfig{Config: mdb.Config{Path: path}, Currency: money.EUR}, out)
	if err != nil {
		return nil, nil, err
	}
	return r, r.Open, nil
}

var childVend = protocol.VendID{0: 0xC1}

// child approves every request and says so; it never ends by itself.
func child(tty string) {
	var v hardware.Vender
	v, open, err := qibixx(tty, 0, func(e hardware.Event) {
		switch e := e.(type) {
		case hardware.VendRequest:
			_ = v.Approve(childVend, e.Bus, e.Item, e.Price, time.Minute)
		case hardware.BusState:
			fmt.Println("bus", e.State, e.Epoch)
		case hardware.Approval:
			fmt.Println("approval", e.How)
		}
	})
	if err == nil {
		err = hardware.Supervise(context.Background(), "vmc", open, func(hardware.Event) {})
	}
	fmt.Println(err)
}

// An agent that is killed in mid vend leaves a tty that opens again, and a result that is still to come.
func TestKilledAgent(t *testing.T) {
	t.Parallel()
	m, err := virtual.NewMachine(virtual.MachineConfig{Link: t.TempDir() + "/vmc", Products: []virtual.Product{{Outlet: outlet, Price: price}}})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	must(t, m.Misbehave(virtual.FaultLateDrop))

	agent := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // ourselves
	agent.Env = append(os.Environ(), childVar+"="+m.Path())
	says, err := agent.StdoutPipe()
	must(t, err)
	must(t, agent.Start())
	for lines := bufio.NewScanner(says); lines.Scan(); {
		if lines.Text() == "bus enabled 2" {
			must(t, m.Select(outlet))
		}
		if lines.Text() == "approval maybe" {
			break
		}
	}
	must(t, agent.Process.Kill())
	_ = agent.Wait()

	b := &bench{t: t, ctx: ctx, make: qibixx, m: m}
	b.boot(2)
	must(t, b.v.Resume(childVend))
	b.enabled()
	must(t, m.Release())
	if e := Next[hardware.VendSuccess](b.l, nil); e.Vend != childVend {
		t.Errorf("late success %+v", e)
	}
	b.drops(1)
}
