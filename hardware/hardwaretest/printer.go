package hardwaretest

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/hardware/paper"
	"coinop/hardware/virtual"
)

// NewPrinter makes a driver for the printer at a path, and what Supervise opens it with. proof is how long the
// printer may work at a job.
type NewPrinter func(path string, proof time.Duration, out func(hardware.Event)) (hardware.Printer, func(context.Context) (hardware.Driver, error))

// drawn are cases that look at files of pictures; to write them is most of what the others would do.
var drawn = []string{"what is printed is the preview", "codes", "a stream of others", "one after the other"}

type printerBench struct {
	t    *testing.T
	far  *virtual.Printer
	l    *Log
	p    hardware.Printer
	dir  string
	stop func()
}

// Printer is what every Printer must do, at a far end as far says.
func Printer(t *testing.T, mk NewPrinter, far virtual.PrinterConfig) {
	t.Helper()
	cases := map[string]func(*testing.T, *printerBench){
		"what is printed is the preview": printed,
		"codes":                          codes,
		"pictures":                       pictures,
		"a stream of others":             goldenCodes,
		"one after the other":            kept,
		"paper out before": func(t *testing.T, b *printerBench) {
			trouble(t, b, virtual.PrinterTrouble{PaperOut: true}, "paper_out")
		},
		"cover open before": func(t *testing.T, b *printerBench) {
			trouble(t, b, virtual.PrinterTrouble{CoverOpen: true}, "cover_open")
		},
		"cutter":                   func(t *testing.T, b *printerBench) { trouble(t, b, virtual.PrinterTrouble{Cutter: true}, "cutter") },
		"paper ends in the middle": paperEnds,
		"paper low prints":         paperLow,
		"mute from the start":      muteFirst,
		"mute in the middle":       muteLater,
		"hung":                     hungPrinter,
		"byte dribble":             func(t *testing.T, b *printerBench) { b.far.Line(virtual.LineDribbles); inTurn(t, b) },
		"two frames in one read":   func(t *testing.T, b *printerBench) { b.far.Line(virtual.LineJoins); inTurn(t, b) },
		"garbage":                  func(t *testing.T, b *printerBench) { b.far.Line(virtual.LineNoise); inTurn(t, b) },
		"gone in mid frame":        func(t *testing.T, b *printerBench) { halfStatus(t, b) },
		"XON and XOFF between":     func(t *testing.T, b *printerBench) { b.far.Line(virtual.LineFlows); inTurn(t, b) },
		"unplugged in the middle":  unpluggedPrinting,
		"unplugged idle":           unpluggedIdle,
		"nothing after the end":    printerEnd,
	}
	if atDevice(t, cases, realPrinter(mk)) {
		return
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &printerBench{t: t, l: NewLog(t), dir: t.TempDir()}
			var err error
			cfg := far
			cfg.Link = t.TempDir() + "/printer"
			if slices.Contains(drawn, name) {
				cfg.Pictures, cfg.Keep = b.dir, 3
			}
			b.far, err = virtual.NewPrinter(cfg)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = b.far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			b.far.Set(virtual.PrinterTrouble{Mute: name == "mute from the start"})
			proof := 2 * patience
			if name == "mute in the middle" || name == "hung" {
				proof = 2 * time.Second
			}
			p, open := mk(b.far.Path(), proof, b.l.Out)
			b.p, b.stop = p, supervise(t, b.l, open)
			if name != "mute from the start" {
				b.health(hardware.Ready, "")
			}
			f(t, b)
			if u := b.far.View().Unknown; len(u) > 0 {
				t.Errorf("commands the printer does not know: %v", u)
			}
		})
	}
}

func (b *printerBench) health(s hardware.HealthState, code string) {
	b.t.Helper()
	Next(b.l, func(e hardware.Health) bool { return e.State == s && (code == "" || e.Code == code) })
}

// print prints a page and returns the reason it ended with.
func (b *printerBench) print(id uint32, p paper.Page) string {
	b.t.Helper()
	must(b.t, b.p.Print(id, p))
	e := Next[hardware.Printed](b.l, nil)
	if e.Job != id || (e.Reason == "") != (e.Result == hardware.PrintWhole) {
		b.t.Errorf("%+v, want job %d", e, id)
	}
	return e.Reason
}

func (b *printerBench) wait(ok func(virtual.PrinterView) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	must(b.t, b.far.Wait(ctx, ok))
}

// aPage is a receipt that is long enough to be in the middle of for a while.
func aPage(lines int) paper.Page {
	r := paper.Receipt{Head: []string{"Kaffee Müller", "10 € und mehr"}, Machine: "snack-1", Sale: "0199a1b2-0000-7000-8000-0000deadbeef", Charged: price, Last4: "0119", Brand: "visa"}
	for range lines {
		r.Items = append(r.Items, paper.Item{Name: "Cola", Price: price, State: paper.ItemDelivered})
	}
	return r.Layout(paper.Form{Columns: paper.Width80})
}

func printed(t *testing.T, b *printerBench) {
	page := aPage(3)
	if r := b.print(7, page); r != "" {
		t.Errorf("ended as %q", r)
	}
	same(t, b, page)
	var drawn bytes.Buffer
	must(t, png.Encode(&drawn, b.far.View().Last))
	if kept, err := os.ReadFile(filepath.Join(b.dir, "receipt-0001.png")); err != nil || !bytes.Equal(kept, drawn.Bytes()) {
		t.Error("the picture that was kept is another", err)
	}
}

// same: the last print is the page's preview.
func same(t *testing.T, b *printerBench, page paper.Page) {
	t.Helper()
	if got, ok := b.far.View().Last.(*image.Paletted); !ok || !bytes.Equal(got.Pix, page.Picture().Pix) {
		t.Error("the print is not the preview, dot by dot")
	}
}

func inTurn(t *testing.T, b *printerBench) {
	for i := range uint32(5) {
		must(t, b.p.Print(i, aPage(1)))
	}
	for i := range uint32(5) {
		if e := Next[hardware.Printed](b.l, nil); e.Job != i || e.Reason != "" {
			t.Errorf("%+v, want job %d", e, i)
		}
	}
	if n := b.far.View().Cuts; n != 5 {
		t.Errorf("%d cuts", n)
	}
}

// kept: the last three pictures are.
func kept(t *testing.T, b *printerBench) {
	inTurn(t, b)
	if files, _ := filepath.Glob(b.dir + "/*"); len(files) != 3 {
		t.Errorf("files %v, want the last three", files)
	}
}

// trouble is said once, refuses the job at once, and goes when it is mended.
func trouble(t *testing.T, b *printerBench, what virtual.PrinterTrouble, reason string) {
	b.far.Set(what)
	b.health(hardware.Fault, "printer."+reason)
	if r := b.print(1, aPage(1)); r != reason {
		t.Errorf("ended as %q", r)
	}
	b.far.Set(virtual.PrinterTrouble{})
	b.health(hardware.Ready, "")
	if r := b.print(2, aPage(1)); r != "" || b.far.View().Cuts != 1 {
		t.Errorf("ended as %q after %d cuts", r, b.far.View().Cuts)
	}
}

func paperEnds(t *testing.T, b *printerBench) {
	b.far.PaperOutAfter(5)
	if r := b.print(1, aPage(40)); r != "paper_out" {
		t.Errorf("ended as %q", r)
	}
	b.far.Set(virtual.PrinterTrouble{})
	b.health(hardware.Ready, "")
	if r := b.print(2, aPage(1)); r != "" {
		t.Errorf("the next ended as %q", r)
	}
}

func paperLow(t *testing.T, b *printerBench) {
	b.far.Set(virtual.PrinterTrouble{PaperLow: true})
	b.health(hardware.Degraded, "printer.paper_low")
	if r := b.print(1, aPage(1)); r != "" {
		t.Errorf("ended as %q", r)
	}
}

func muteFirst(t *testing.T, b *printerBench) {
	b.health(hardware.Degraded, hardware.CodeSilent)
	must(t, b.p.Print(1, aPage(1)))
	b.wait(func(v virtual.PrinterView) bool { return v.Cuts == 1 })
	b.far.Set(virtual.PrinterTrouble{})
	b.health(hardware.Ready, "")
}

func muteLater(t *testing.T, b *printerBench) {
	b.far.Set(virtual.PrinterTrouble{Mute: true})
	must(t, b.p.Print(1, aPage(1)))
	b.wait(func(v virtual.PrinterView) bool { return v.Cuts == 1 })
	Next[hardware.Printed](b.l, func(e hardware.Printed) bool { return e.Reason == "unconfirmed" || e.Reason == "port_lost" })
}

// hungPrinter takes no bytes: what is longer than the line's buffers ends all the same.
func hungPrinter(t *testing.T, b *printerBench) {
	b.far.Set(virtual.PrinterTrouble{Hung: true})
	must(t, b.p.Print(1, aPage(250)))
	if e := Next[hardware.Printed](b.l, nil); e.Reason == "" {
		t.Error("printed")
	}
	Next[hardware.PortGone](b.l, nil) // what waits in it is not for the next
	b.far.Set(virtual.PrinterTrouble{})
	b.health(hardware.Ready, "")
	b.again(2)
}

// again prints once the port is back, and what the printer had in its buffer is out.
func (b *printerBench) again(id uint32) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := b.p.Print(id, aPage(1))
		if err == nil && Next(b.l, func(e hardware.Printed) bool { return e.Job == id }).Reason == "" {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("nothing is printed any more", err)
		}
	}
}

func unpluggedPrinting(t *testing.T, b *printerBench) {
	b.far.Set(virtual.PrinterTrouble{Hung: true})
	must(t, b.p.Print(1, aPage(20)))
	time.Sleep(20 * time.Millisecond) // some of it has left
	b.far.Unplug()
	if e := Next[hardware.Printed](b.l, nil); e.Reason != "port_lost" {
		t.Errorf("ended as %q", e.Reason)
	}
	Next[hardware.PortGone](b.l, nil)
	if err := b.p.Print(2, aPage(1)); err == nil {
		t.Error("taken without a port")
	}
	b.far.Set(virtual.PrinterTrouble{})
	must(t, b.far.Replug())
	b.health(hardware.Ready, "")
	if r := b.print(3, aPage(1)); r != "" {
		t.Errorf("ended as %q", r)
	}
}

// halfStatus: the cable goes in the middle of a status.
func halfStatus(t *testing.T, b *printerBench) {
	b.far.Line(virtual.LineHalf)
	if err := b.p.Print(1, aPage(5)); err == nil { // else it was an answer to the first questions
		if e := Next[hardware.Printed](b.l, nil); e.Reason != "port_lost" {
			t.Errorf("ended as %q", e.Reason)
		}
	}
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	b.health(hardware.Ready, "")
	if r := b.print(2, aPage(1)); r != "" {
		t.Errorf("ended as %q", r)
	}
}

func unpluggedIdle(t *testing.T, b *printerBench) {
	b.far.Unplug()
	Next[hardware.PortGone](b.l, nil)
	must(t, b.far.Replug())
	b.health(hardware.Ready, "")
	if r := b.print(1, aPage(1)); r != "" {
		t.Errorf("ended as %q", r)
	}
}

func printerEnd(t *testing.T, b *printerBench) {
	b.far.Set(virtual.PrinterTrouble{Hung: true})
	must(t, b.p.Print(1, aPage(250)))
	b.stop()
	b.far.Set(virtual.PrinterTrouble{})
	if err := b.p.Print(2, aPage(1)); err == nil {
		t.Error("taken after the end")
	}
}
