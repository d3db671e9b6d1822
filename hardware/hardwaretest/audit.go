package hardwaretest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"coinop/hardware"
	"coinop/hardware/virtual"
)

// NewAudit makes a driver for the audit port at a path, and what Supervise opens it with.
type NewAudit func(path string, out func(hardware.Event)) (hardware.Audit, func(context.Context) (hardware.Driver, error), error)

// Audit is what every Audit must do.
func Audit(t *testing.T, mk NewAudit) {
	t.Helper()
	var b strings.Builder
	b.WriteString("ST*001*0001\r\n")
	for i := range 60 {
		fmt.Fprintf(&b, "PA1*%d*150\r\nPA2*%d*%d*0*0\r\n", i, i, 150*i)
	}
	file := append([]byte(b.String()), 0x10, '\r', '\n') // the link carries a DLE too
	cases := map[string]struct {
		fault virtual.DEXFault
		want  string
		line  virtual.LineFault
	}{
		"reads":                         {fault: virtual.DEXOK, want: ""},
		"it does not answer":            {fault: virtual.DEXSilent, want: "no_answer"},
		"it does not understand":        {fault: virtual.DEXNak, want: ""},
		"a sum is wrong":                {fault: virtual.DEXBadSum, want: ""},
		"it stops in the middle":        {fault: virtual.DEXCut, want: "broken"},
		"it is busy":                    {fault: virtual.DEXSlow, want: ""},
		"it misses an acknowledgment":   {fault: virtual.DEXDeafOnce, want: ""},
		"noise between the blocks":      {fault: virtual.DEXNoise, want: ""},
		"the cable is pulled meanwhile": {fault: virtual.DEXSilent, want: "port_lost"},
		"byte dribble":                  {line: virtual.LineDribbles},
		"two frames in one read":        {line: virtual.LineJoins},
		"gone in mid frame":             {want: "port_lost", line: virtual.LineHalf},
	}
	if atDevice(t, cases, realAudit(mk)) {
		return
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, err := virtual.NewDEX(t.TempDir()+"/dex", file)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = far.Run(ctx) }()
			t.Cleanup(func() { cancel(); <-done })
			far.Set(file, c.fault)
			l := NewLog(t)
			a, open, err := mk(far.Path(), l.Out)
			must(t, err)
			supervise(t, l, open)
			Next(l, func(e hardware.Health) bool { return e.State == hardware.Ready })
			far.Line(c.line)
			must(t, a.Read())
			if c.want == "port_lost" {
				if c.line == virtual.LineFine {
					far.Unplug()
				}
				if e := Next[hardware.AuditRead](l, nil); e.Reason != c.want {
					t.Errorf("ended as %q", e.Reason)
				}
				must(t, far.Replug())
				Next(l, func(e hardware.Health) bool { return e.State == hardware.Ready })
			} else if e := nextSlow[hardware.AuditRead](l); e.Reason != c.want || c.want == "" && !bytes.Equal(e.File, file) {
				t.Errorf("ended as %q with %d bytes", e.Reason, len(e.File))
			}
			far.Set(file, virtual.DEXOK) // and again
			must(t, a.Read())
			if e := nextSlow[hardware.AuditRead](l); e.Reason != "" || !bytes.Equal(e.File, file) {
				t.Errorf("the next reading ended as %q with %d bytes", e.Reason, len(e.File))
			}
		})
	}
}
