package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"coinop/agent/journal"
	"coinop/hardware"
	"coinop/hardware/escpos"
	"coinop/hardware/pcsc"
	"coinop/hardware/terminal"
	"coinop/protocol"
	"coinop/protocol/code"

	"golang.org/x/sys/unix"
)

// Exam is what Examine looks at. Empty fields are not looked at.
type Exam struct {
	Identity string // folder
	Data     string // folder
	Cloud    string // host:port
	Ports    []ExamPort
	Printers []ExamAddress // in the network
	ZVT      []ExamAddress // payment terminals
	Cards    []ExamCards
	PCSC     string // socket of pcscd; where it always is
}

// ExamAddress is a device at host:port that the configuration names.
type ExamAddress struct{ Name, Address string }

// ExamCards is a reader behind pcscd that the configuration names; Reader is its name there, or a part of it.
type ExamCards struct{ Name, Reader string }

// ExamPort is a device file that the configuration names. None says why there is none, as for auto.
type ExamPort struct{ Name, Path, None string }

// Level is how a part stands.
type Level string

// Levels of a Finding.
const (
	LevelOK   Level = "ok"
	LevelWarn Level = "warn" // it works, and will not for ever
	LevelFail Level = "fail"
	LevelNone Level = "none" // it could not be looked at; another finding says why
)

// Finding is what was found of one part.
type Finding struct {
	Part  string     `json:"part"`
	Level Level      `json:"level"`
	Says  string     `json:"says"`
	Fault code.Fault `json:"fault,omitzero"` // of warn and fail
}

// Spans of an examination: all of it is over in three seconds.
const (
	dialExam    = 2 * time.Second
	alertExam   = 200 * time.Millisecond // for the cloud's word that it does not know our certificate
	certWarn    = 21 * 24 * time.Hour
	clockWarn   = 2 * time.Second
	waitingWarn = time.Hour
)

// Examine looks at a device from its identity to the bank, whether its agent runs or not, with or
// without a network, and changes nothing.
func Examine(ctx context.Context, x Exam) []Finding {
	var all sync.WaitGroup
	parts := make([][]Finding, 5)
	look := func(i int, f func() []Finding) { all.Go(func() { parts[i] = f() }) }
	var id Identity
	parts[0], id = examIdentity(x)
	look(1, func() []Finding { return examCloud(ctx, x, id) })
	look(2, func() []Finding { return examPing(ctx, x) })
	look(3, func() []Finding { return examJournal(x) })
	look(4, func() []Finding { return examAgent(ctx, x) })
	all.Wait()
	out := parts[0]
	for _, i := range []int{4, 1, 2, 3} {
		out = append(out, parts[i]...)
	}
	return out
}

func good(part, format string, args ...any) Finding {
	return Finding{Part: part, Level: LevelOK, Says: fmt.Sprintf(format, args...)}
}

func bad(part string, l Level, c code.Code, format string, args ...any) Finding {
	f := Finding{Part: part, Level: l, Fault: code.Of(c), Says: fmt.Sprintf(format, args...)}
	if f.Says == "" {
		f.Says = f.Fault.Cause
	}
	return f
}

func examIdentity(x Exam) ([]Finding, Identity) {
	if x.Identity == "" {
		return nil, Identity{}
	}
	id, err := LoadIdentity(x.Identity)
	if err != nil {
		return []Finding{bad("identity", LevelFail, code.IdentityBroken, "%v", err)}, id
	}
	until, left := id.cert.Leaf.NotAfter, time.Until(id.cert.Leaf.NotAfter)
	says := fmt.Sprintf("%s, certificate %s until %s", id.Device, id.Signer.KeyID, until.Local().Format(time.DateOnly))
	switch {
	case left <= 0:
		return []Finding{bad("identity", LevelFail, code.IdentityExpired, "%s", says)}, id
	case left < certWarn:
		return []Finding{bad("identity", LevelWarn, code.IdentityExpires, "%s (%d days)", says, int(left.Hours())/24)}, id
	}
	return []Finding{good("identity", "%s (%d days)", says, int(left.Hours())/24)}, id
}

// examCloud makes a connection as far as the certificates: a CONNECT would end the agent's own.
func examCloud(ctx context.Context, x Exam, id Identity) []Finding {
	if x.Cloud == "" {
		return nil
	}
	if id.Device == "" {
		return []Finding{{Part: "cloud", Level: LevelNone, Says: x.Cloud + ": not tried without an identity"}}
	}
	config, err := id.tls(x.Cloud)
	if err != nil {
		return []Finding{bad("cloud", LevelFail, code.LinkAddress, "%v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, dialExam)
	defer cancel()
	began := time.Now()
	c, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", x.Cloud)
	if err != nil {
		return []Finding{bad("cloud", LevelFail, linkCode(err), "%s: %v", x.Cloud, err)}
	}
	defer c.Close()
	took := time.Since(began)
	// With TLS 1.3 the server looks at our certificate after we believe the handshake to be over.
	_ = c.SetReadDeadline(time.Now().Add(alertExam))
	if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return []Finding{bad("cloud", LevelFail, linkCode(err), "%s: %v", x.Cloud, err)}
	}
	return []Finding{good("cloud", "%s, connected and believed within %d ms", x.Cloud, took.Milliseconds())}
}

// examPing asks the cloud through the agent: the one way that has all of its keys.
func examPing(ctx context.Context, x Exam) []Finding {
	if x.Data == "" {
		return nil
	}
	r, err := Tell(ctx, x.Data, Order{Do: OrderPing})
	switch {
	case errors.Is(err, ErrNotRunning):
		return []Finding{{Part: "authorize", Level: LevelNone, Says: "not asked: the agent does not run"}}
	case err != nil:
		return []Finding{bad("authorize", LevelFail, code.CloudSilent, "%v", err)}
	case r.Pong == nil || !r.Pong.Acquirer:
		return []Finding{bad("authorize", LevelFail, code.AcquirerDown, "the cloud answers, the bank cannot be reached from it")}
	}
	return []Finding{good("authorize", "the cloud answered within %d ms, and reaches the bank", r.Pong.RTTMS)}
}

func examJournal(x Exam) []Finding {
	if x.Data == "" {
		return nil
	}
	held := protocol.Seq(0)
	st, err := AskStatus(x.Data)
	if err == nil {
		held = st.Journal.Acked
	}
	var oldest protocol.UnixMS // of those that wait
	p, err := journal.Peek(filepath.Join(x.Data, journalName), func(o protocol.Opened) {
		if o.Position.Seq > held && oldest == 0 {
			oldest = o.At.Wall
		}
	})
	switch held = max(held, p.Released); {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{bad("journal", LevelWarn, code.JournalNone, "%s holds no records yet", x.Data)}
	case err == nil:
		err = p.Chain
	}
	if err != nil {
		return []Finding{bad("journal", LevelFail, code.JournalBroken, "%v", err)}
	}
	says := fmt.Sprintf("%d records, each follows the one before", p.Records)
	waits := p.Head.Seq - held
	if waits == 0 {
		return []Finding{good("journal", "%s, the cloud holds all", says)}
	}
	age := time.Since(oldest.Time()).Round(time.Second)
	says = fmt.Sprintf("%s, %d wait for the cloud, the oldest for %s", says, waits, age)
	if age > waitingWarn {
		return []Finding{bad("journal", LevelWarn, code.JournalWaiting, "%s", says)}
	}
	return []Finding{good("journal", "%s", says)}
}

// examAgent is what the running agent says of itself, or what can be seen without one.
func examAgent(ctx context.Context, x Exam) []Finding {
	if x.Data == "" {
		return examHardware(ctx, x, false)
	}
	st, err := AskStatus(x.Data)
	if err != nil {
		return append([]Finding{bad("data", LevelFail, code.DataFolder, "%v", err)}, examHardware(ctx, x, false)...)
	}
	var out []Finding
	switch st.Running {
	case IsRunning:
		out = append(out, good("agent", "%s, process %d, up %s", st.Software, st.Process, time.Since(st.Since).Round(time.Second)))
	case NotAnswering:
		out = append(out, bad("agent", LevelFail, code.AgentHung, "process %d has the data folder and does not answer", st.Process))
	case NotRunning:
		out = append(out, bad("agent", LevelFail, code.AgentNotRunning, "nobody has the data folder %s", x.Data))
	}
	out = append(out, examClock(st), examStorage(st))
	if c := st.Link.Stopped; c != "" {
		out = append(out, bad("cloud's word", LevelFail, c, ""))
	}
	if st.Running != IsRunning {
		return append(append(out, examHardware(ctx, x, st.Running == NotAnswering)...), examLately(st)...)
	}
	for _, d := range st.Box {
		out = append(out, examDevice(d.Name, d))
	}
	for _, l := range st.Lanes {
		lane := fmt.Sprintf("lane %d ", l.Lane)
		for _, d := range l.Devices {
			out = append(out, examDevice(lane+d.Name, d))
		}
		if c := l.Cash; c != nil && c.Known && c.Exact {
			out = append(out, bad(lane+"change", LevelWarn, code.CashExact, "%s in the tubes", c.Change))
		}
		if l.Tampered {
			out = append(out, bad(lane+"tamper", LevelFail, code.Tamper, ""))
		}
		if m := l.Selling; m != nil && m.Mode != ModeFull && m.Reason != "" {
			level := LevelWarn // what it lacks has a finding of its own
			if m.Reason == code.VendingAway {
				level = LevelFail
			}
			out = append(out, bad(lane+"sells", level, m.Reason, "%s", strings.ReplaceAll(string(m.Mode), "_", " ")))
		}
	}
	return append(out, examLately(st)...)
}

// examDevice is what a piece of hardware says of itself.
func examDevice(part string, d DeviceStatus) Finding {
	says := d.State
	if d.Detail != "" {
		says += ": " + d.Detail
	}
	says += ", for " + time.Since(d.Since).Round(time.Second).String()
	switch {
	case !d.missed():
		return good(part, "%s", says)
	case d.State == hardware.Starting.String(), d.State == hardware.Degraded.String():
		return bad(part, LevelWarn, d.Code, "%s", says)
	}
	return bad(part, LevelFail, d.Code, "%s", says)
}

// examLately is what went wrong and is over, or is for a person.
func examLately(st Status) (out []Finding) {
	for _, l := range st.Lately {
		says := "last at " + l.At.Local().Format(time.TimeOnly)
		if l.Count > 1 {
			says = fmt.Sprintf("%d times, %s", l.Count, says)
		}
		if l.Detail != "" {
			says += ": " + l.Detail
		}
		out = append(out, bad(cmp.Or(l.Device, "agent"), LevelWarn, l.Code, "%s", says))
	}
	return out
}

func examStorage(st Status) Finding {
	says := fmt.Sprintf("%d MB free, journal %d MB", st.Storage.Free>>20, st.Storage.Used>>20)
	if st.Storage.Error != "" {
		says += ", the disk said: " + st.Storage.Error
	}
	switch {
	case st.Storage.Code == code.StorageOK || st.Storage.Code == "":
		return good("storage", "%s", says)
	case st.Storage.Sells:
		return bad("storage", LevelWarn, st.Storage.Code, "%s", says)
	}
	return bad("storage", LevelFail, st.Storage.Code, "%s", says)
}

// examClock holds this machine's clock against the cloud's, or asks the kernel who keeps it.
func examClock(st Status) Finding {
	if c := st.Clock; c != nil {
		ahead := time.Duration(c.AheadMS) * time.Millisecond
		says := fmt.Sprintf("%+.2f s against the cloud", ahead.Seconds())
		if ahead.Abs() > clockWarn+time.Duration(c.RTTMS)*time.Millisecond/2 {
			return bad("clock", LevelWarn, code.ClockOff, "%s", says)
		}
		return good("clock", "%s", says)
	}
	now := time.Now().Local().Format(time.DateTime)
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		return bad("clock", LevelWarn, code.ClockUnsynced, "%s, and nothing keeps it", now)
	}
	return good("clock", "%s; the cloud was not asked", now)
}

// examHardware looks at what the configuration names, when no agent says how it stands. held: one has it.
func examHardware(ctx context.Context, x Exam, held bool) []Finding {
	ctx, cancel := context.WithTimeout(ctx, dialExam)
	defer cancel()
	out := examPorts(x, held)
	more := make([]Finding, len(x.Printers)+len(x.ZVT)+len(x.Cards))
	var all sync.WaitGroup
	for i, p := range x.Printers {
		if held { // it takes one connection at a time
			more[i] = Finding{Part: p.Name, Level: LevelNone, Says: p.Address + ": the agent has it and does not answer"}
			continue
		}
		all.Go(func() {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", p.Address)
			if err != nil {
				more[i] = bad(p.Name, LevelFail, code.Code(escpos.Unreachable(err).Code), "%v", err)
				return
			}
			_ = c.Close()
			more[i] = good(p.Name, "%s takes a connection; whether the printer can print, the agent would say", p.Address)
		})
	}
	for i, z := range x.ZVT {
		i += len(x.Printers)
		if held { // it takes one connection at a time
			more[i] = Finding{Part: z.Name, Level: LevelNone, Says: z.Address + ": the agent has it and does not answer"}
			continue
		}
		all.Go(func() {
			says, err := terminal.Identify(ctx, z.Address)
			if n, ok := errors.AsType[hardware.Named](err); ok {
				more[i] = bad(z.Name, LevelFail, code.Code(n.Code), "%v", err)
				return
			}
			if err != nil { // something is there
				more[i] = bad(z.Name, LevelFail, code.TerminalNoAnswer, "%s: %v", z.Address, err)
				return
			}
			more[i] = good(z.Name, "%s: %s", z.Address, says)
		})
	}
	for i, c := range x.Cards {
		i += len(x.Printers) + len(x.ZVT)
		all.Go(func() {
			name, err := pcsc.Look(ctx, x.PCSC, c.Reader)
			if n, ok := errors.AsType[hardware.Named](err); ok {
				more[i] = bad(c.Name, LevelFail, code.Code(n.Code), "%v", err)
				return
			}
			more[i] = good(c.Name, "pcscd has %s", name)
		})
	}
	all.Wait()
	return append(out, more...)
}

// examPorts looks whether the ports are there, and opens none: that may reset a device. held: an agent has them.
func examPorts(x Exam, held bool) []Finding {
	var out []Finding
	for _, p := range x.Ports {
		st, err := os.Stat(p.Path)
		switch {
		case p.None != "":
			out = append(out, bad(p.Name, LevelFail, code.PortAbsent, "%s", p.None))
		case err != nil:
			out = append(out, bad(p.Name, LevelFail, code.PortAbsent, "%v", err))
		case st.Mode()&fs.ModeDevice == 0:
			out = append(out, bad(p.Name, LevelFail, code.PortNoDevice, "%s is a %s", p.Path, kindOf(st)))
		case unix.Access(p.Path, unix.R_OK|unix.W_OK) != nil:
			out = append(out, bad(p.Name, LevelFail, code.PortDenied, "%s may not be opened by this user", p.Path))
		case held:
			out = append(out, Finding{Part: p.Name, Level: LevelNone, Says: p.Path + " is there; the agent has it and does not answer"})
		default:
			out = append(out, good(p.Name, "%s is there; whether the device answers, the agent would say", p.Path))
		}
	}
	return out
}

func kindOf(st fs.FileInfo) string {
	if st.IsDir() {
		return "folder"
	}
	return "file"
}

// linkCode names what a connection met.
func linkCode(err error) code.Code {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var alert tls.AlertError
	var dns *net.DNSError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return code.LinkExpired
	case errors.As(err, &host):
		return code.LinkOtherName
	case errors.As(err, &authority):
		return code.LinkUntrusted
	case errors.As(err, &alert):
		return code.IdentityRefused
	case errors.As(err, &dns):
		return code.LinkName
	case errors.Is(err, unix.ECONNREFUSED):
		return code.LinkRefused
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return code.LinkClosed
	}
	return code.LinkNoAnswer
}
