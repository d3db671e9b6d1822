package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coinop/hardware"
	"coinop/hardware/dex"
	"coinop/protocol/code"
)

// A machine's own books are read when nobody buys, and kept as they came: whoever doubts what we make of
// them can look. What does not fit the reading before is written for the cloud.
const (
	auditsDir   = "audits"
	auditsKept  = 100
	auditSoon   = time.Minute      // after the start
	auditAgain  = 15 * time.Minute // after a reading that failed
	auditRetry  = 5 * time.Second  // while somebody buys
	auditLayout = "20060102T150405.000Z"
)

// Audit reads a machine's own books; Supervise can open it.
type Audit interface {
	hardware.Audit
	Open(context.Context) (hardware.Driver, error)
}

// DEX is a machine's audit port at a tty.
func DEX(path string) func(Wiring) (Audit, error) {
	return func(w Wiring) (Audit, error) { return dex.New(dex.Config{Path: path, Clock: w.Clock}, w.Out) }
}

// audits reads the books that are due. While somebody buys they wait.
func (s *shell) audits(now time.Duration) {
	for _, l := range s.lanes {
		if l.audit == nil || l.auditing || now < l.auditAt {
			continue
		}
		if st, ok := s.device.LaneState(l.id); ok && !st.Idle() {
			l.auditAt = now + auditRetry
			continue
		}
		l.auditAt = now + auditAgain
		if err := l.audit.Read(); err != nil { // its port is gone: health has said so
			continue
		}
		l.auditing = true
	}
}

// audited is the end of a reading.
func (s *shell) audited(l *lane, ev hardware.AuditRead) error {
	l.auditing = false
	end, fatal := s.keep(l, ev)
	if l.moved { // the door, meanwhile: what was read may be of before
		l.moved, l.auditAt = false, min(l.auditAt, s.mono()+doorSettles)
	}
	for _, c := range l.asking {
		c <- end
	}
	l.asking = nil
	return fatal
}

// keep takes a reading in.
func (s *shell) keep(l *lane, ev hardware.AuditRead) (end auditEnd, fatal error) {
	log := s.log.With("lane", int(l.id))
	if ev.Reason != "" {
		log.Warn("the machine's books were not read", "reason", ev.Reason, "check", "the cable of the DEX port; it is tried again in 15 minutes")
		return auditEnd{err: fmt.Errorf("the machine's books were not read: %s", ev.Reason)}, nil
	}
	path, audit, found, err := keepAudit(s.cfg.Data, l, ev.File, time.Now())
	if err != nil {
		log.Warn("the machine's books cannot be used", "error", err, "file", path, "check", "coinop-agent dex show FILE says more; they are read again in 15 minutes")
		return auditEnd{path, fmt.Errorf("the machine's books cannot be used: %w", err)}, nil
	}
	l.auditAt = s.mono() + l.auditEvery
	log.Info("the machine's books were read", "file", path, "bytes", len(ev.File))
	var ins []Input
	for _, f := range found {
		if f.Code == dex.FindingFirst {
			continue
		}
		log.Warn("the machine's books", "finding", f.Code, "detail", f.Text)
		ins = append(ins, Fault{Code: auditCodes[f.Code], Detail: fmt.Sprintf("lane %d: %s", l.id, f.Text)})
	}
	record, err := s.counters(l, ev.File, audit)
	if err != nil {
		log.Warn("the machine's counters are not money", "error", err, "file", path)
		return auditEnd{path, err}, s.handle(ins...)
	}
	return auditEnd{file: path}, s.handle(append(ins, Noted{Lane: l.id, Body: record})...)
}

var auditCodes = map[string]code.Code{
	dex.FindingBoard: code.AuditBoard, dex.FindingScale: code.AuditScale,
	dex.FindingBackwards: code.AuditBackwards, dex.FindingProducts: code.AuditProducts,
}

// keepAudit writes a file as it came, and compares it with the newest before it that is whole.
func keepAudit(data string, l *lane, raw []byte, now time.Time) (path string, audit dex.Audit, found []dex.Finding, err error) {
	dir := filepath.Join(data, auditsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", audit, nil, err
	}
	prefix := fmt.Sprintf("lane-%d-", l.id)
	older, err := auditNames(dir, prefix)
	if err != nil {
		return "", audit, nil, err
	}
	path = filepath.Join(dir, prefix+now.UTC().Format(auditLayout)+".dts")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return path, audit, nil, err
	}
	f, err := dex.Parse(raw)
	if err != nil {
		return path, audit, nil, err
	}
	audit = f.Audit()
	var before *dex.Audit
	for _, name := range slices.Backward(older) {
		if old, err := os.ReadFile(filepath.Join(dir, name)); err == nil { //nolint:gosec // of our folder
			if f, err := dex.Parse(old); err == nil {
				a := f.Audit()
				before = &a
				break
			}
		}
	}
	for i := range len(older) + 1 - auditsKept {
		_ = os.Remove(filepath.Join(dir, older[i]))
	}
	_, found = dex.Compare(before, audit)
	return path, audit, found, nil
}

// auditNames are a lane's files, oldest first.
func auditNames(dir, prefix string) (names []string, err error) {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ".dts") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}
