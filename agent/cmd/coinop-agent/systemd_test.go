package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSystemd: the program says to its service manager that it has begun, and then, over and over, that it lives. It
// does so on a computer without the pins and the watchdog that its file names. It is started as the unit starts it.
func TestSystemd(t *testing.T) {
	unit, err := os.ReadFile("../../../deploy/systemd/coinop-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Type=notify", "WatchdogSec=30s", "Restart=always", "StartLimitIntervalSec=0", "StateDirectory=coinop"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit has no line %s", line)
		}
	}
	_, start, _ := strings.Cut(string(unit), "\nExecStart=/usr/local/bin/coinop-agent ")
	start, _, _ = strings.Cut(start, "\n")
	dir := t.TempDir()
	path := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	t.Setenv("WATCHDOG_PID", "")
	file := strings.NewReplacer("/nowhere", newIdentity(t, dir), "/d\n", filepath.Join(dir, "data")+"\n", "/dev/v", filepath.Join(dir, "no-tty")).Replace(small) +
		"board: {required: false, door: {pin: GPIO999}, buzzer: {pin: GPIO998, approved: 1x50}, power: [{device: vmc, pin: GPIO997}]}\n" +
		"watchdog: {device: " + filepath.Join(dir, "none") + "}\ntemperatures: [{name: computer, driver: soc, id: 0, most: 80}]\n"
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	log := &shared{}
	ended := make(chan int, 1)
	args := strings.Fields(strings.Replace(start, "/etc/coinop/agent.yaml", written(t, file), 1))
	go func() { ended <- execute(ctx, args, nil, log, log) }()
	b := make([]byte, 64)
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := l.Read(b); err != nil || string(b[:n]) != want {
			t.Fatalf("%q, want %s: %v\n%s", b[:n], want, err, log)
		}
	}
	var status string
	for !strings.Contains(status, "board.absent (not required)") && ctx.Err() == nil {
		_, status, _ = call(t, nil, "status", "--data", filepath.Join(dir, "data"))
	}
	if !strings.Contains(status, "watchdog.absent: ") || strings.Contains(status, "board.absent: ") {
		t.Errorf("%s\n%s", status, log)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("%d %s", code, log)
	}
}
