package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/hardware/usb"
	"coinop/protocol/code"
)

// A reader that is pulled out is a record, then reason enough to start anew; one that is pulled out before
// the agent starts is no reason, and when it is back that is a record too.
func TestRecovery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.cfg.Recovery = agent.Recovery{ReopenAfter: 100 * time.Millisecond, RestartAfter: 1500 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, s.cfg) }()
	ready := func(l agent.LaneStatus, _ *agent.LastSale) bool {
		return slices.ContainsFunc(l.Devices, func(d agent.DeviceStatus) bool { return d.Name == "reader" && d.State == "ready" })
	}
	s.stands(ready)
	s.reader.Unplug()
	err := <-ended
	if again, ok := errors.AsType[*agent.Again](err); !ok || again.After != code.RecoveryRestart {
		t.Fatalf("the agent ended with %v", err)
	}
	if got := s.recoveries(); !slices.Equal(got, []string{"recovery.reopen", "recovery.restart"}) {
		t.Errorf("%q", got)
	}

	s.cfg.After = code.RecoveryRestart
	stop := s.start()
	s.until("that it gave up on the reader", func() bool {
		st, err := agent.AskStatus(s.cfg.Data)
		return err == nil && len(st.Lanes) == 1 && len(st.Lanes[0].Devices) == 2 && time.Since(st.Since) > 3*s.cfg.Recovery.RestartAfter
	})
	if err := s.reader.Replug(); err != nil {
		t.Fatal(err)
	}
	l := s.stands(ready)
	s.until("that it is back", func() bool { return strings.Contains(s.log.String(), "a device is back") })
	if i := slices.IndexFunc(l.Devices, func(d agent.DeviceStatus) bool { return d.Name == "reader" }); l.Devices[i].Count != 1 {
		t.Errorf("it went away %d times", l.Devices[i].Count)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.recoveries(); !slices.Equal(got, []string{"recovery.reopen", "recovery.restart", "recovery.reopen", "recovery.over"}) {
		t.Errorf("%q", got)
	}
}

// A reader at USB that is silent is reset, once, before the agent would start anew; that is a record, and the reset
// goes to the reader's own node.
func TestRecoveryAtUSB(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tty, err := filepath.EvalSymlinks(s.reader.Path())
	if err != nil {
		t.Fatal(err)
	}
	sys := t.TempDir()
	at := filepath.Join(sys, "devices/usb1/1-4")
	for name, text := range map[string]string{"busnum": "1", "devnum": "9", "bDeviceClass": "00", "product": "VP3300", "idVendor": "0acd", "idProduct": "3530", "1-4:1.0/x": ""} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(at, name)), 0o700), os.WriteFile(filepath.Join(at, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	class := filepath.Join(sys, "class/tty", filepath.Base(tty))
	if err := errors.Join(os.MkdirAll(class, 0o700), os.Symlink(filepath.Join(at, "1-4:1.0"), filepath.Join(class, "device"))); err != nil {
		t.Fatal(err)
	}
	sent := make(chan string, 8)
	s.cfg.Lanes[0].Ports = map[string]string{"reader": s.reader.Path()}
	s.cfg.Recovery = agent.Recovery{ReopenAfter: 100 * time.Millisecond, ResetAfter: 200 * time.Millisecond, USB: usb.Tree{Sys: sys, Send: func(node string) error {
		sent <- node
		s.reader.Mute(false) // that is what helps
		return nil
	}}}
	s.reader.Mute(true)
	stop := s.start()
	s.until("that it is back", func() bool { return strings.Contains(s.log.String(), "a device is back") })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if node := <-sent; node != "/dev/bus/usb/001/009" || len(sent) != 0 {
		t.Errorf("%s was reset, and %d more times", node, len(sent))
	}
	if got := s.recoveries(); !slices.Equal(got, []string{"recovery.reopen", "recovery.usb_reset", "recovery.over"}) {
		t.Errorf("%q", got)
	}
}

func (s *site) recoveries() (all []string) {
	for _, e := range s.events("recovery.reopen recovery.restart recovery.over recovery.power_cycle recovery.usb_reset") {
		if !strings.HasPrefix(e.Device, "lane 0 reader") {
			s.t.Errorf("%+v", e)
		}
		all = append(all, e.Code)
	}
	return all
}
