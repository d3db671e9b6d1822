package hardwaretest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/virtual"
)

// NewScanner makes a driver for the scanner at a path, on that clock, and what Supervise opens it with. A code
// that is seen within two seconds is the same one still; it lives for a minute at least.
type NewScanner func(path string, clock hardware.Clock, out func(hardware.Event)) (hardware.Scanner, func(context.Context) (hardware.Driver, error))

// Codes that are shown.
const (
	scanWallet  = "135056725249518813"
	scanProduct = "4006381333931"
	scanText    = "https://example.com/a?b=C&d=%20_E#~!"
)

type scannerBench struct {
	t       *testing.T
	far     *virtual.Scanner
	kind    virtual.ScannerKind
	trigger bool // it must be told to look
	l       *Log
	s       hardware.Scanner
	stop    func()
	ahead   atomic.Int64 // how far the driver's clock is
}

// Scanner is what every Scanner must do.
func Scanner(t *testing.T, kind virtual.ScannerKind, mk NewScanner) {
	t.Helper()
	all := map[string]func(*testing.T, *scannerBench){
		"reads":                   scans,
		"shown again":             scanStale,
		"stopped":                 scanStopped,
		"a control character":     func(t *testing.T, b *scannerBench) { b.refused(virtual.ScannerControl, hardware.CodeControl) },
		"too long":                scanLong,
		"byte dribble":            func(t *testing.T, b *scannerBench) { b.far.Line(virtual.LineDribbles); b.reads(scanProduct) },
		"gone in mid code":        scanHalf,
		"unplugged":               scanUnplugged,
		"nothing after the end":   scanEnd,
		"nothing prints a code":   scanPrints,
		"commands of the maker's": scanCommands,
	}
	if kind != virtual.ScannerBare { // a code without an end is whole there
		all["torn off"] = scanTorn
		all["seen still"] = scanTwice
		all["two in one read"] = scanJoined
	}
	if kind == virtual.ScannerKeyboard {
		all["a key was lost"] = func(t *testing.T, b *scannerBench) { b.refused(virtual.ScannerLostKey, hardware.CodeControl) }
	}
	if atDevice(t, all, realScanner(mk)) {
		return
	}
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, err := virtual.NewScanner(t.TempDir()+"/scanner", kind)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			b := &scannerBench{t: t, far: far, kind: kind, trigger: kind >= virtual.ScannerHoneywell, l: NewLog(t)}
			since := hardware.Since()
			s, open := mk(far.Path(), func() time.Duration { return since() + time.Duration(b.ahead.Load()) }, b.l.Out)
			b.s, b.stop = s, supervise(t, b.l, open)
			b.ready()
			f(t, b)
		})
	}
}

func (b *scannerBench) ready() {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == hardware.Ready })
	must(b.t, b.s.Scan())
	b.settle()
}

// settle waits until the driver has taken every command: its mailbox is full as long as it has not.
func (b *scannerBench) settle() {
	b.t.Helper()
	for range 17 {
		err := b.s.Scan()
		for end := time.Now().Add(patience); errors.Is(err, hardware.ErrBusy) && time.Now().Before(end); {
			runtime.Gosched()
			err = b.s.Scan()
		}
		must(b.t, err)
	}
	b.looks()
}

func (b *scannerBench) looks() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, func(v virtual.ScannerView) bool { return v.Looks }))
}

func (b *scannerBench) show(code string) {
	b.t.Helper()
	b.looks()
	must(b.t, b.far.Show(code))
}

func (b *scannerBench) reads(code string) {
	b.t.Helper()
	b.show(code)
	if got := string(Next[hardware.CodeRead](b.l, nil).Code.Reveal()); got != code {
		b.t.Errorf("read %q", got)
	}
}

func (b *scannerBench) codes() int { return count(b.l, func(hardware.CodeRead) bool { return true }) }

// refused: the next code is none, the one after it is.
func (b *scannerBench) refused(f virtual.ScannerFault, reason string) {
	b.t.Helper()
	b.far.Misbehave(f)
	b.show(scanWallet)
	if e := Next[hardware.CodeRefused](b.l, nil); e.Reason != reason {
		b.t.Errorf("refused as %q", e.Reason)
	}
	b.reads(scanWallet)
	if n := b.codes(); n != 1 {
		b.t.Errorf("%d codes", n)
	}
}

func scans(_ *testing.T, b *scannerBench) {
	b.reads(scanWallet)
	b.reads(scanProduct)
	b.reads(scanText)
}

func scanTwice(t *testing.T, b *scannerBench) {
	b.far.Misbehave(virtual.ScannerTwice)
	b.reads(scanWallet)
	b.show(scanWallet)
	b.reads(scanProduct)
	if n := b.codes(); n != 2 || count(b.l, func(hardware.CodeRefused) bool { return true }) != 0 {
		t.Errorf("%d codes of two: %s", n, b.l)
	}
}

func scanStale(t *testing.T, b *scannerBench) {
	b.reads(scanWallet)
	b.ahead.Add(int64(3 * time.Second))
	b.show(scanWallet)
	if e := Next[hardware.CodeRefused](b.l, nil); e.Reason != hardware.CodeStale {
		t.Errorf("refused as %q", e.Reason)
	}
	b.far.Unplug() // it does not forget
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	b.ready()
	b.ahead.Add(int64(3 * time.Second))
	b.show(scanWallet)
	if e := Next[hardware.CodeRefused](b.l, nil); e.Reason != hardware.CodeStale {
		t.Errorf("refused as %q", e.Reason)
	}
	b.reads(scanProduct)
}

func scanStopped(t *testing.T, b *scannerBench) {
	must(t, b.s.Stop())
	if b.trigger {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		must(t, b.far.Wait(ctx, func(v virtual.ScannerView) bool { return v.Stops > 0 && !v.Looks }))
		if err := b.far.Show(scanWallet); !errors.Is(err, virtual.ErrNotArmed) {
			t.Error("it looked on")
		}
		must(t, b.s.Scan())
	}
	b.settle()
	b.reads(scanProduct)
}

func scanLong(t *testing.T, b *scannerBench) {
	b.show(strings.Repeat("7", 513))
	if e := Next[hardware.CodeRefused](b.l, nil); e.Reason != hardware.CodeTooLong {
		t.Errorf("refused as %q", e.Reason)
	}
	b.reads(strings.Repeat("7", 512))
}

// scanTorn: what a scanner's codes end with is known by the first of them.
func scanTorn(t *testing.T, b *scannerBench) {
	b.reads(scanProduct)
	b.far.Misbehave(virtual.ScannerTornOff)
	b.show(scanWallet)
	if e := Next[hardware.CodeRefused](b.l, nil); e.Reason != hardware.CodeTorn {
		t.Errorf("refused as %q", e.Reason)
	}
	b.reads(scanWallet)
}

func scanJoined(t *testing.T, b *scannerBench) {
	if b.trigger { // one at a time
		return
	}
	b.far.Line(virtual.LineJoins)
	b.show(scanWallet)
	b.show(scanProduct)
	for _, want := range []string{scanWallet, scanProduct} {
		if got := string(Next[hardware.CodeRead](b.l, nil).Code.Reveal()); got != want {
			t.Errorf("read %q", got)
		}
	}
}

func scanHalf(t *testing.T, b *scannerBench) {
	b.far.Line(virtual.LineHalf)
	_ = b.far.Show(scanText)
	Next[hardware.PortGone](b.l, nil)
	b.far.Unplug()
	must(t, b.far.Replug())
	b.ready()
	b.reads(scanText)
	if n := b.codes(); n != 1 {
		t.Errorf("%d codes", n)
	}
}

func scanUnplugged(t *testing.T, b *scannerBench) {
	b.reads(scanWallet)
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	if err := b.s.Scan(); err == nil {
		t.Error("a command was taken without a port")
	}
	must(t, b.far.Replug())
	b.ready()
	b.reads(scanProduct)
}

func scanEnd(t *testing.T, b *scannerBench) {
	b.stop()
	_ = b.far.Show(scanWallet)
	if b.s.Scan() == nil || b.s.Stop() == nil {
		t.Error("a command was taken after the end")
	}
}

func scanCommands(t *testing.T, b *scannerBench) {
	b.reads(scanWallet)
	b.looks() // told again, without being asked
	if v := b.far.View(); v.BadIn != 0 || b.trigger != (v.Starts > 1) {
		t.Errorf("%+v", v)
	}
}

func scanPrints(t *testing.T, b *scannerBench) {
	b.show(scanWallet)
	read := Next[hardware.CodeRead](b.l, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{read, &read, read.Code, []any{read}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, scanWallet[:6]) || strings.Contains(s, "313335303536") || strings.Contains(s, "49 51 53") {
				t.Errorf("%s of %T shows a code: %s", verb, v, s)
			}
		}
	}
}
