package probe

import (
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
	cash, err5 := virtual.NewCash(virtual.CashConfig{})
	dex, err6 := virtual.NewDEX("", []byte("DXS*X*VA*V0/6*1\r\n"))
	for _, c := range []struct{ path, part, driver, says string }{
		{plugged(t, machine, err1), "vending", "qibixx", "Qibixx MDB adapter, "},
		{plugged(t, reader, err2), "reader", "vivopay", "serial 630Z000001"},
		{plugged(t, printer, err3), "printer", "escpos", "receipt printer"},
		{plugged(t, board, err4), "vending", "relay-board", "Modbus"},
		{plugged(t, cash, err5), "cash", "mdb", "coin changer of level 2, units of 5"},
		{plugged(t, dex, err6), "audit", "dex", "DEX port"},
	} {
		t.Run(c.driver, func(t *testing.T) {
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

func TestWhyNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	silent, err := virtual.NewMachine(virtual.MachineConfig{})
	if err != nil {
		t.Fatal(err)
	}
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
	if err := os.Symlink("../../ttyUSB1", filepath.Join(dev, "serial/by-id/usb-Qibixx-if00")); err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(strings.Join(Ports(dev), " "), dev+"/", "")
	if want := "serial/by-id/usb-Qibixx-if00 ttyUSB0 ttyS0 usb/lp0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
