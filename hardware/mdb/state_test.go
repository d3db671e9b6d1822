package mdb

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/money"
)

// rig steps a machine and writes down what it does, one line an action.
type rig struct {
	t   *testing.T
	s   State
	now time.Duration
	got []string
	end error
	// jam makes every write fail with nothing written; half with its first byte written.
	jam, half bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return &rig{t: t, s: NewState(CashlessConfig{Config: Config{Device: "vmc"}, BusEpoch: 7, Scale: Scale{Currency: money.EUR, Decimals: 2}})}
}

func (r *rig) in(in any) {
	s, o := r.s.Step(r.now, in)
	r.s = s
	for todo := o.Do; len(todo) > 0; {
		a := todo[0]
		todo = todo[1:]
		if a.Emit != nil {
			r.got = append(r.got, show(a.Emit))
			continue
		}
		r.got = append(r.got, "> "+strings.TrimSpace(string(a.Write)))
		w := hardware.Wrote{N: len(a.Write)}
		switch {
		case r.jam:
			w = hardware.Wrote{Err: errors.New("jam")}
		case r.half:
			w = hardware.Wrote{N: 1, Err: errors.New("half")}
		}
		s, more := r.s.Step(r.now, w)
		r.s = s
		todo = append(more.Do, todo...)
	}
	if o.End != nil {
		r.end = o.End
	}
}

func show(e hardware.Event) string {
	switch e := e.(type) {
	case hardware.VendRequest:
		return fmt.Sprintf("request %d/%d/%d %v %d%s", e.Bus.BusEpoch, e.Bus.Session, e.Bus.Request, e.Price, e.Item, e.Bad)
	case hardware.Approval:
		return fmt.Sprintf("approval %d %v", e.Vend[0], e.How)
	case hardware.VendSuccess:
		return fmt.Sprintf("success %d item %d", e.Vend[0], e.Item)
	case hardware.VendFailure:
		return fmt.Sprintf("failure %d", e.Vend[0])
	case hardware.BusState:
		return "bus " + e.State.String()
	case hardware.BusReset:
		return fmt.Sprintf("reset %d", e.Epoch)
	case hardware.Health:
		return "health " + e.Code
	default:
		return strings.TrimPrefix(fmt.Sprintf("%T", e), "hardware.")
	}
}

func (r *rig) lines(lines ...string) {
	for _, l := range lines {
		r.in(hardware.Bytes{B: []byte(l + "\r\n")})
	}
}

// after lets time pass, stepping when the machine asked for it.
func (r *rig) after(d time.Duration) {
	for end := r.now + d; ; {
		_, o := r.s.Step(r.now, nil) // asks for the wake alone
		if o.Wake == 0 || o.Wake > end {
			r.now = end
			return
		}
		r.now = max(r.now, o.Wake)
		r.in(hardware.Wake{})
		if r.end != nil {
			return
		}
	}
}

func (r *rig) want(want ...string) {
	r.t.Helper()
	if got := strings.Join(r.got, "\n"); got != strings.Join(want, "\n") {
		r.t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	r.got = nil
}

// up is an adapter that lived on and is enabled.
func (r *rig) up() {
	r.in(hardware.Opened{})
	r.lines("v,4.0.2.0,1a2b3c4d", `c,ERR,"cashless is on"`, "c,STATUS,ENABLED")
	r.got = nil
}

func vend(n byte) protocol.VendID { return protocol.VendID{n} }

func (r *rig) approve(n byte, by time.Duration) {
	r.in(approve{vend: vend(n), amount: "1.00", by: r.now + by})
}

func TestColdStart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.in(hardware.Opened{})
	r.want("> V")
	r.lines("v,4.0.2.0,1a2b3c4d")
	r.want("> C,1")
	r.lines("c,STATUS,INACTIVE")
	r.want("reset 9", "bus down", "> C,0")
	r.lines("c,1", "c,0")
	r.want("> C,SETCONF,mdb-addr=0x10")
	r.lines("c,SET,OK")
	r.want("> C,SETCONF,mdb-currency-code=0x1978")
	r.lines("c,SET,OK")
	r.want("> C,SETCONF,mdb-always-idle=1")
	r.lines("c,SET,OK")
	r.want("> C,1")
	// docs.qibixx.com, vending-sessions-examples, Selection First: INACTIVE comes twice.
	r.lines("c,STATUS,INACTIVE", "c,1", "c,STATUS,INACTIVE", "r,ACK", "c,STATUS,DISABLED", "r,ACK", "r,ACK", "c,STATUS,ENABLED")
	r.want("health ready", "bus disabled", "bus enabled")
	r.lines("c,STATUS,VEND,1.00,5")
	r.want("request 9/1/1 1.00 EUR 5")
	r.approve(1, time.Second)
	r.want("> C,VEND,1.00", "approval 1 maybe")
	r.lines("r,ACK", "c,VEND,SUCCESS", "c,STATUS,IDLE", "c,STATUS,ENABLED", "r,ACK")
	r.want("success 1 item 5")
}

func TestSilentAdapterIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.in(hardware.Opened{})
	r.after(time.Minute)
	r.want("> V", "> V", "> V")
	if !errors.Is(r.end, errSilent) || r.now != 3*time.Second {
		t.Errorf("ended %v at %v", r.end, r.now)
	}
}

func TestConfigurationRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.in(hardware.Opened{})
	r.lines("v,1", "c,1", "c,0", "c,ERR,unknown")
	r.after(1500 * time.Millisecond) // no answer to the second
	r.lines("c,SET,OK", "c,1")
	r.want("> V", "> C,1", "reset 9", "bus down", "> C,0", "> C,SETCONF,mdb-addr=0x10", "health not_configured",
		"> C,SETCONF,mdb-currency-code=0x1978", "health not_configured", "> C,SETCONF,mdb-always-idle=1", "> C,1",
		"health ready", "bus down")
}

func TestApproveBy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.lines("c,STATUS,VEND,1.00,5")
	r.got = nil
	r.in(approve{vend: vend(1), amount: "1.00", by: r.now}) // it waited too long in the queue
	r.want("approval 1 withdrawn")
	r.approve(1, time.Second) // and is over
	r.want()
	r.approve(2, time.Second) // the request is not
	r.want("> C,VEND,1.00", "approval 2 maybe")
	r.lines("c,STATUS,VEND,1.00,5")
	r.approve(2, 5*time.Second)
	r.want("request 8/1/1 1.00 EUR 5", "> C,VEND,1.00") // the same 05 again, its end told once
	r.after(time.Second)
	r.got = nil
	r.approve(2, 5*time.Second) // but not beyond the first approve's time
	r.want()
}

func TestWriteFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		jam, half bool
		want      string
	}{{"nothing left", true, false, "approval 1 withdrawn"}, {"half a line", false, true, "approval 1 maybe"}} {
		r := newRig(t)
		r.up()
		r.lines("c,STATUS,VEND,1.00,5")
		r.got = nil
		r.jam, r.half = c.jam, c.half
		r.approve(1, time.Second)
		r.want("> C,VEND,1.00", c.want)
		r.in(hardware.Closed{})
		r.approve(2, time.Second)
		r.want("approval 2 withdrawn")
	}
}

func TestLeavingVend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		approve bool
		line    string
		want    []string
	}{
		{"open, canceled", false, "c,ERR,VEND 1", []string{"VendCancel"}},
		{"open, idle", false, "c,STATUS,IDLE", []string{"VendCancel"}},
		{"open, enabled", false, "c,STATUS,ENABLED", []string{"VendCancel"}},
		{"open, disabled", false, "c,STATUS,DISABLED", []string{"VendCancel", "bus disabled"}},
		{"open, inactive", false, "c,STATUS,INACTIVE", []string{"reset 9", "bus down"}},
		{"open, other request", false, "c,STATUS,VEND,2.00,6", []string{"request 8/1/2 2.00 EUR 6"}},
		{"open, result", false, "c,VEND,SUCCESS", nil},
		{"approved, canceled", true, "c,ERR,VEND 1", []string{"VendCancel"}},
		{"approved, idle", true, "c,STATUS,IDLE", []string{"SessionComplete"}},
		{"approved, disabled", true, "c,STATUS,DISABLED", []string{"bus disabled"}},
		{"approved, inactive", true, "c,STATUS,INACTIVE", []string{"reset 9", "bus down"}},
		{"approved, other request", true, "c,STATUS,VEND,2.00,6", []string{"request 8/1/2 2.00 EUR 6"}},
		{"approved, failure", true, "c,ERR,VEND 3", []string{"failure 1"}},
		{"approved, success", true, "c,VEND,SUCCESS", []string{"success 1 item 5"}},
		{"approved, another error", true, "c,ERR,VEND 9", nil},
	} {
		r := newRig(t)
		r.up()
		r.lines("c,STATUS,VEND,1.00,5")
		if c.approve {
			r.approve(1, time.Second)
		}
		r.got = nil
		r.lines(c.line)
		t.Log(c.name)
		r.want(c.want...)
	}
}

// A result after the session gave the vend up is still that vend's: SALE row S37.
func TestLateResult(t *testing.T) {
	t.Parallel()
	for _, between := range []string{"c,STATUS,IDLE", "c,STATUS,INACTIVE", "c,ERR,VEND 1", ""} {
		r := newRig(t)
		r.up()
		r.lines("c,STATUS,VEND,1.00,5")
		r.approve(1, time.Second)
		r.in(deny{})
		r.lines(between)
		r.got = nil
		r.lines("c,VEND,SUCCESS", "c,VEND,SUCCESS")
		r.want("success 1 item 5")
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	t.Run("before the result", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.in(resume{vend(9)})
		r.up()
		r.lines("c,ERR,VEND 3")
		r.want("failure 9")
	})
	t.Run("after it", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.in(hardware.Opened{})
		r.lines("c,VEND,SUCCESS", "c,STATUS,ENABLED", "v,1")
		r.got = nil
		r.in(resume{vend(9)})
		r.want("success 9 item 65535")
		r.in(resume{vend(8)}) // one result, one vend
		r.want()
	})
	t.Run("not across a new request", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.up()
		r.lines("c,STATUS,VEND,1.00,5")
		r.got = nil
		r.in(resume{vend(9)})
		r.approve(1, time.Second)
		r.lines("c,VEND,SUCCESS")
		r.want("> C,VEND,1.00", "approval 1 maybe", "success 1 item 5")
	})
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.lines("c,STATUS,VEND,1.005,5", "c,STATUS,VEND,x,5", "c,STATUS,VEND,1.00,five", "c,STATUS,VEND,1.00,70000", "c,STATUS,VEND,1.00,65535")
	r.want("request 8/1/1 0.00 000 5price", "request 8/1/2 0.00 000 5price", "request 8/1/3 0.00 000 0item", "request 8/1/4 0.00 000 0item",
		"request 8/1/5 1.00 EUR 65535")
	r.in(deny{})
	r.want("> C,STOP")
}

// What was said about a request that is over is not for the one that is open now.
func TestWordsThatCross(t *testing.T) {
	t.Parallel()
	key := func(session, request uint32) protocol.BusKey {
		return protocol.BusKey{BusEpoch: 8, Session: session, Request: request}
	}
	r := newRig(t)
	r.up()
	r.lines("c,STATUS,VEND,1.00,5", "c,ERR,VEND 1", "c,STATUS,IDLE", "c,STATUS,ENABLED", "c,STATUS,VEND,2.00,6")
	r.got = nil
	r.in(deny{key(1, 1)})
	r.in(approve{vend: vend(1), bus: key(1, 1), amount: "1.00", by: r.now + time.Second})
	r.want("approval 1 withdrawn")
	r.in(approve{vend: vend(2), bus: key(2, 1), amount: "2.00", by: r.now + time.Second})
	r.want("> C,VEND,2.00", "approval 2 maybe")

	r = newRig(t) // and the adapter was switched off and on in between
	r.up()
	r.lines("c,STATUS,VEND,1.00,5", "c,STATUS,INACTIVE", "c,STATUS,ENABLED", "c,STATUS,VEND,2.00,6")
	r.got = nil
	r.in(deny{key(1, 1)})
	r.want()
	r.in(deny{protocol.BusKey{BusEpoch: 9, Session: 1, Request: 1}})
	r.want("> C,STOP")
}

func TestDeniedIsDeniedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.lines("c,STATUS,VEND,1.00,5")
	r.in(deny{})
	r.in(deny{})
	r.lines("c,STATUS,VEND,1.00,5", "c,STATUS,IDLE", "c,STATUS,ENABLED", "c,STATUS,VEND,1.00,5")
	r.want("request 8/1/1 1.00 EUR 5", "> C,STOP", "> C,STOP", "request 8/2/1 1.00 EUR 5")
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	for range 3 {
		r.after(2 * time.Second)
		r.lines("v,1")
	}
	r.want("> V", "bus enabled", "> V", "bus enabled", "> V", "bus enabled")
	r.after(5 * time.Second)
	r.want("> V", "> V", "health device_silent", "bus down")
	r.lines("r,ACK")
	r.want("health ready", "bus enabled")
	r.after(time.Minute)
	if !errors.Is(r.end, errSilent) || r.now > 30*time.Second {
		t.Errorf("ended %v at %v", r.end, r.now)
	}
}

// While a result is awaited a silent adapter is given longer: closing the port would end the vend.
func TestSilenceInVend(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	r.lines("c,STATUS,VEND,1.00,5")
	r.approve(1, time.Second)
	r.after(50 * time.Second)
	if r.end != nil {
		t.Fatalf("ended %v at %v", r.end, r.now)
	}
	r.after(20 * time.Second)
	if r.end == nil {
		t.Error("never ended")
	}
}

func TestAdapterLostItsPower(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.up()
	for i := 0; len(r.got) == 0 || r.got[len(r.got)-1] != "> C,1"; i++ { // the check
		if i > 20 {
			t.Fatalf("never checked: %q", r.got)
		}
		r.after(2 * time.Second)
		r.lines("v,1")
		r.got = r.got[:len(r.got)-1]
	}
	r.got = nil
	r.lines("c,1")
	r.want("reset 9", "bus down", "> C,0")
}

func TestCardFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.in(begin{funds: "5.00"}) // nothing is enabled
	r.want("SessionComplete")
	r.up()
	r.in(begin{funds: "5.00"})
	r.lines("c,STATUS,IDLE", "c,STATUS,VEND,1.00,5")
	r.approve(1, time.Second)
	r.lines("c,VEND,SUCCESS", "c,STATUS,IDLE")
	r.in(end{})
	r.lines("c,STATUS,ENABLED")
	r.want("> C,START,5.00", "request 8/1/1 1.00 EUR 5", "> C,VEND,1.00", "approval 1 maybe", "success 1 item 5", "> C,STOP", "SessionComplete")
}

// Whatever an adapter says, an approval ends at most once, and no success comes without one.
func FuzzState(f *testing.F) {
	f.Add("v,1\nc,1\nc,0\n!a\nc,STATUS,VEND,1.00,5\n!a\nc,VEND,SUCCESS\n!d\n!t\n!o")
	f.Add("v,1\nc,ERR,\"cashless is on\"\n!r\nc,VEND,SUCCESS\nc,STATUS,VEND,1.00,5\n!a\n!c\n!o\nc,VEND,SUCCESS")
	f.Fuzz(func(t *testing.T, script string) {
		r := newRig(t)
		r.in(hardware.Opened{})
		n := byte(0)
		for l := range strings.SplitSeq(script, "\n") {
			switch l {
			case "!a":
				n = n%100 + 1
				r.approve(n, time.Second)
			case "!d":
				r.in(deny{})
			case "!t":
				r.now += 3 * time.Second
				r.in(hardware.Wake{})
			case "!r":
				r.in(resume{vend(200)})
			case "!c":
				r.in(hardware.Closed{})
			case "!o":
				r.in(hardware.Opened{})
			default:
				r.lines(l)
			}
		}
		if strings.Count(script, "!a") > 100 {
			return
		}
		ends := map[string]int{}
		for _, g := range r.got {
			if strings.HasPrefix(g, "approval ") {
				ends[strings.Fields(g)[1]]++
			}
			if strings.HasPrefix(g, "success ") || strings.HasPrefix(g, "failure ") {
				if id := strings.Fields(g)[1]; id != "200" && ends[id] != 1 {
					t.Fatalf("a result for vend %s, whose approval ended %d times", id, ends[id])
				}
			}
		}
		for id, k := range ends {
			if k != 1 {
				t.Fatalf("approval %s ended %d times", id, k)
			}
		}
		if len(ends) != strings.Count("\n"+script+"\n", "\n!a\n") && !strings.Contains(script, "!a\n!a") {
			t.Fatalf("%d approvals, %d ends", strings.Count(script, "!a"), len(ends))
		}
	})
}
