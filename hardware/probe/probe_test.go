package probe

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
	"coinop/protocol/money"
)

func plugged[D interface {
	Run(context.Context) error
	Path() string
}](t *testing.T, d D, err error,
) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return d.Path()
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	product := virtual.Product{Outlet: 1, Price: money.New(100, money.EUR)}
	machine, err1 := virtual.NewMachine(virtual.MachineConfig{Products: []virtual.Product{product}})
	reader, err2 := virtual.NewReader(virtual.ReaderConfig{})
	printer, err3 := virtual.NewPrinter(virtual.PrinterConfig{})
	board, err4 := virtual.NewBoard(virtual.BoardConfig{Outlets: []virtual.BoardOutlet{{Product: product, Relay: 1}}})
	cash, err5 := virtual.NewCash(virtual.CashConfig{Level3: true})
	dex, err6 := virtual.NewDEX("", []byte("DXS*X*VA*V0/6*1\r\n"))
	controller, err7 := virtual.NewController(virtual.ControllerConfig{})
	wafer, err8 := virtual.NewWaferMachine(virtual.ControllerConfig{})
	bus, err9 := virtual.NewCash(virtual.CashConfig{})
	master, err10 := virtual.NewWaferAdapter("", plugged(t, bus, err9))
	first, err11 := virtual.NewBusReader(virtual.BusReaderConfig{})
	chip, err12 := virtual.NewPN532("")
	hid, err13 := virtual.NewReader(virtual.ReaderConfig{HID: true, Link: filepath.Join(t.TempDir(), "reader")})
	t.Cleanup(func() { // after the parallel ones
		b, r, m := board.View(), first.View(), machine.View()
		if bus.View().Out != 0 || cash.View().Out != 0 || b.Pulses != 0 || b.Relays != 0 || r.Asked != 0 || m.Requests != 0 || m.Drops != 0 {
			t.Errorf("a question moved money or goods: %+v %+v %+v %+v %+v", bus.View(), cash.View(), b, r, m)
		}
	})
	for _, c := range []struct{ path, part, driver, says string }{
		{plugged(t, machine, err1), "vending", "qibixx", "Qibixx MDB adapter, "},
		{plugged(t, reader, err2), "reader", "vivopay", "serial 630Z000001"},
		{plugged(t, printer, err3), "printer", "escpos", "receipt printer"},
		{plugged(t, board, err4), "vending", "relay-board", "Modbus"},
		{plugged(t, cash, err5), "cash", "mdb", "coin changer of level 3, units of 5; "},
		{plugged(t, dex, err6), "audit", "dex", "DEX port"},
		{plugged(t, controller, err7), "vending", "mdb-raw", "its controller asks"},
		{plugged(t, wafer, err8), "vending", "waferstar", "RS232-MDB"},
		{plugged(t, master, err10), "cash", "waferstar", "coin changer of level 2, units of 5, behind"},
		{plugged(t, first, err11), "terminal", "mdb", "2 decimals; "},
		{plugged(t, chip, err12), "reader", "pn532", "PN532, firmware 1.6"},
		{plugged(t, hid, err13), "reader", "vivopay", "serial 630Z000001"},
	} {
		t.Run(c.part+" "+c.driver, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			f := Identify(t.Context(), c.path)
			if f.Part != c.part || f.Driver != c.driver || !f.Sure || !strings.Contains(f.Says, c.says) {
				t.Errorf("%+v", f)
			}
			t.Logf("%s after %s", f.Says, time.Since(began))
		})
	}
}

// Before an MDB-RS232 has had its question, nobody is sent what it would pass on as a command that moves money: DISPENSE
// and PAYOUT of a changer, ESCROW of a validator.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, q := range serial {
		if q.driver == "waferstar" && q.part == "cash" {
			return
		}
		if bytes.ContainsAny(q.ask, "\x0D\x0F\x35") {
			t.Errorf("%s is asked % X", q.driver, q.ask)
		}
	}
	t.Error("an MDB-RS232 is not asked")
}

func TestWhyNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	silent, err := virtual.NewMachine(virtual.MachineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Unplug() })
	taken, err := virtual.NewReader(virtual.ReaderConfig{})
	path := plugged(t, taken, err)
	port, err := hardware.OpenTTY(path, 9600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = port.Close() })
	plain := filepath.Join(dir, "usb-Epson_TM-T20-if00")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, part, why string }{
		{"not there", filepath.Join(dir, "none"), "", "not there"},
		{"another has it", path, "", "another process has it: is the agent running?"},
		{"no line, but a name", plain, "printer", "no serial line"},
		{"silent", silent.Path(), "", "vivopay: no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := Identify(t.Context(), c.path)
			if f.Part != c.part || f.Sure || !strings.Contains(strings.Join(f.WhyNot, "\n"), c.why) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestKernel: what is not asked is named by the kernel's word, or by its name, or left aside.
func TestKernel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hid := func(n, uevent string, types bool) string {
		put("sys/class/hidraw/hidraw"+n+"/device/uevent", uevent)
		if types {
			put("sys/class/hidraw/hidraw"+n+"/device/input/input"+n+"/name", "x")
		}
		return put("dev/hidraw"+n, "")
	}
	put("sys/class/tty/console/active", "tty0 ttyAMA0\n")
	put("sys/class/input/event7/device/name", "Honeywell Imaging & Mobility 1470g\n")
	event := put("dev/input/event7", "")
	plain := filepath.Join(dir, "dev/input/by-id/usb-1_2-event-kbd")
	if err := os.MkdirAll(filepath.Dir(plain), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(event, plain); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, part, driver, with, says string
		sure, aside                          bool
	}{
		{"a head of MagTek's", hid("0", "HID_ID=0003:00000801:00000011\nHID_NAME=MagTek Insert\n", false), "reader", "magstripe", "head: magtek", "0801:0011", true, false},
		{"a head of ID TECH's", hid("1", "HID_ID=0003:00000ACD:00002010\nHID_NAME=ID TECH SecureMag\n", false), "", "", "", "no HID device", false, false},
		{"a mouse", hid("2", "HID_ID=0003:0000046D:0000C077\nHID_NAME=Logitech USB Optical Mouse\n", true), "", "", "", "types, or points", false, true},
		{"a thing nobody knows", hid("3", "HID_ID=0003:00001234:00005678\nHID_NAME=Thing\n", false), "", "", "", "none that we know", false, true},
		{"a scanner that types", plain, "scanner", "keyboard", "", "by its name alone", false, false},
		{"a stripe reader that types", put("dev/input/by-id/usb-MagTek_Swipe-event-kbd", ""), "reader", "magstripe", "", "by its name alone", false, false},
		{"a keyboard", put("dev/input/by-id/usb-Cherry-event-kbd", ""), "", "", "", "only types", false, true},
		{"an I2C bus", put("dev/i2c-1", ""), "", "", "", "--port", false, true},
		{"the kernel's console", put("dev/ttyAMA0", ""), "", "", "", "kernel's console", false, false},
		{"a line beside it", put("dev/ttyAMA1", ""), "", "", "", "no serial line", false, false},
		{"pins that are none", put("dev/gpiochip9", ""), "", "", "", "not there", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := identify(t.Context(), c.path, filepath.Join(dir, "sys"), false)
			if f.Part != c.part || f.Driver != c.driver || f.Sure != c.sure || f.Aside != c.aside || strings.Join(f.With, ",") != c.with ||
				!strings.Contains(f.Says+strings.Join(f.WhyNot, "\n"), c.says) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// TestTerminal: a terminal in the network tells its status; nothing is registered or charged.
func TestTerminal(t *testing.T) {
	t.Parallel()
	far, err := virtual.NewTerminal(virtual.TerminalConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = far.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if f := Terminal(t.Context(), far.Address()); f.Part != "terminal" || f.Driver != "zvt" || !f.Sure || !strings.Contains(f.Says, "ZVT terminal") {
		t.Errorf("%+v", f)
	}
	if v := far.View(); v.Asked != 0 || len(v.Books) != 0 || v.Enquired == 0 {
		t.Errorf("%+v", v)
	}
	if f := Terminal(t.Context(), "127.0.0.1:1"); f.Part != "" || !strings.Contains(f.WhyNot[0], "refused") {
		t.Errorf("%+v", f)
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	dev := t.TempDir()
	for _, name := range []string{"serial/by-id", "usb"} {
		if err := os.MkdirAll(filepath.Join(dev, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ttyUSB0", "ttyUSB1", "ttyS0", "usb/lp0", "tty"} {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"input/by-id/usb-Cherry-event-kbd", "input/by-id/usb-Cherry-event-mouse", "i2c-1", "gpiochip0", "hidraw0"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dev, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../ttyUSB1", filepath.Join(dev, "serial/by-id/usb-Qibixx-if00")); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.Join(Ports(dev), " "), dev+"/", "")
	if want := "serial/by-id/usb-Qibixx-if00 ttyUSB0 ttyS0 usb/lp0 hidraw0 input/by-id/usb-Cherry-event-kbd i2c-1 gpiochip0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
