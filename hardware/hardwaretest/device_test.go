package hardwaretest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"coinop/hardware/virtual"
)

// person does what the suite tells, once the device can; what is told is a part of the line.
type person map[string]func() error

func (p person) does(ctx context.Context, line string) {
	for what, do := range p {
		for strings.Contains(line, what) && ctx.Err() == nil {
			if do() == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestDevice: a device that -device names is one of ours here, and the person who is told what to do a program.
func TestDevice(t *testing.T) {
	t.Parallel()
	runs := func(t *testing.T, run func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	cable := func(out func(), in func() error) func() error {
		return func() error { out(); time.Sleep(50 * time.Millisecond); return in() }
	}
	for suite, c := range map[string]struct {
		far  func(*testing.T) (path string, p person)
		pass []string
	}{
		"TestESCPOS/serial": {func(t *testing.T) (string, person) {
			far, err := virtual.NewPrinter(virtual.PrinterConfig{Link: t.TempDir() + "/printer"})
			must(t, err)
			runs(t, far.Run)
			return far.Path(), person{"pull its cable": cable(far.Unplug, far.Replug), "take the paper out": func() error {
				far.Set(virtual.PrinterTrouble{PaperOut: true})
				time.Sleep(200 * time.Millisecond)
				far.Set(virtual.PrinterTrouble{})
				return nil
			}}
		}, []string{"one_after_the_other", "paper_out_before", "unplugged_idle"}},
		"TestVivopay/serial": {func(t *testing.T) (string, person) {
			far, err := virtual.NewReader(virtual.ReaderConfig{Link: t.TempDir() + "/reader"})
			must(t, err)
			runs(t, far.Run)
			return far.Path(), person{"pull its cable": cable(far.Unplug, far.Replug), "present a test card": func() error { return far.Tap(virtual.VisaTest()) }}
		}, []string{"reads", "cancel", "time-out", "unplugged_while_armed"}},
		"TestMagstripe/serial": {func(t *testing.T) (string, person) {
			far, err := virtual.NewStripe(virtual.StripeConfig{Link: t.TempDir() + "/stripe", Kind: virtual.StripeSerial})
			must(t, err)
			runs(t, far.Run)
			return far.Path(), person{"pull its cable": cable(far.Unplug, far.Replug), "swipe a test card": func() error {
				time.Sleep(200 * time.Millisecond) // a head does not tell that it is armed
				return far.Swipe(stripeBank)
			}}
		}, []string{"reads", "unplugged_while_armed"}},
		"TestPN532$": {func(t *testing.T) (string, person) {
			far := farPN532(t)
			return far.Path(), person{"hold a card": func() error {
				far.Present(Classic(t, "\xde\xad\xbe\xef", "\xde\xad\xbe\xef"))
				time.Sleep(time.Second)
				far.Present()
				return nil
			}, "pull its cable": cable(far.Unplug, far.Replug)}
		}, []string{"reads", "time-out"}},
		"TestScanner/CR$": {func(t *testing.T) (string, person) {
			far, err := virtual.NewScanner(t.TempDir()+"/scanner", virtual.ScannerCR)
			must(t, err)
			runs(t, far.Run)
			return far.Path(), person{"pull its cable": cable(far.Unplug, far.Replug), "show the barcode": func() error {
				time.Sleep(200 * time.Millisecond) // nor does a scanner
				return far.Show(scanProduct)
			}}
		}, []string{"reads", "unplugged"}},
		"TestQibixx": {func(t *testing.T) (string, person) {
			m, err := virtual.NewMachine(virtual.MachineConfig{Link: t.TempDir() + "/vmc", Products: []virtual.Product{{Outlet: outlet, Price: price}}})
			must(t, err)
			runs(t, m.Run)
			return m.Path(), person{"press": func() error { return m.Select(outlet) }}
		}, []string{"denies", "sells"}},
		"TestCash$": {func(t *testing.T) (string, person) {
			far, err := virtual.NewCash(virtual.CashConfig{Link: t.TempDir() + "/cash", Tubes: []int{10, 10, 10, 10, 10, -1}})
			must(t, err)
			runs(t, far.Run)
			return far.Path(), person{"put a coin in": func() error { return far.Coin(3) }, "put a bill in": func() error { return far.Bill(0) }}
		}, []string{"pays", "a_bill_is_held,_then_back"}},
		"TestDEX": {func(t *testing.T) (string, person) {
			far, err := virtual.NewDEX(t.TempDir()+"/dex", []byte("ST*001*0001\r\n"))
			must(t, err)
			runs(t, far.Run)
			return far.Path(), nil
		}, []string{"reads"}},
		"TestZVT/purchases": {func(t *testing.T) (string, person) {
			far, err := virtual.NewTerminal(virtual.TerminalConfig{Waits: true})
			must(t, err)
			runs(t, far.Run)
			return far.Address(), nil
		}, []string{"aborted"}},
	} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			path, p := c.far(t)
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.v", "-test.run", suite, "-device", path) //nolint:gosec // ourselves
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var said strings.Builder
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said.WriteString(lines.Text() + "\n")
				if strings.Contains(lines.Text(), "-> ") {
					p.does(ctx, lines.Text())
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, said.String())
			}
			for _, name := range c.pass {
				if !strings.Contains(said.String(), "--- PASS: "+strings.TrimSuffix(suite, "$")+"/"+name+" ") {
					t.Errorf("%s did not pass:\n%s", name, said.String())
				}
			}
			if !strings.Contains(said.String(), "no real device does that when it is told to") {
				t.Error("what cannot be played is not named")
			}
		})
	}
	cmd := exec.Command(os.Args[0], "-device", "/dev/null") //nolint:gosec // ourselves
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "-run chooses") {
		t.Errorf("every suite ran at one device: %v %s", err, out)
	}
}
