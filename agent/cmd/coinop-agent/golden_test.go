package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"coinop/agent"
	"coinop/agent/journal"
	"coinop/agent/profile"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// Where what a technician sees stands: a file a command, with its exit code.
const goldens = "testdata/golden"

// varies is what no two runs have alike, and what stands there in its place.
var varies = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`last at \d\d:\d\d:\d\d`), "last at TIME"},
	{regexp.MustCompile(`until \d{4}-\d\d-\d\d \(\d+ days\)`), "until DATE (N days)"},
	{regexp.MustCompile(`\b(for|up) (\d+(\.\d+)?(h|ms|m|s))+`), "$1 SPAN"},
	{regexp.MustCompile(`(\d+(\.\d+)?(h|m|s)|\d+ days)+ ago`), "SPAN ago"},
	{regexp.MustCompile(`(\d{4}-)?\d\d-\d\d \d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d)? (GB|MB|KB|bytes)\b`), "N $2"},
	{regexp.MustCompile(`  not whole: .*`), "  "}, // of what this machine does not have
}

// unkept is what doctor says of a clock that no cloud has told the time: nothing keeps that of a container.
var unkept = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^ (ok  |warn)  clock .*\n( {10,}.*\n)*`), regexp.MustCompile(`, \d+ warnings?`), regexp.MustCompile(` clock\.unsynced`),
}

// golden holds what was said, with what varies replaced, against its file.
func golden(t *testing.T, name, text string, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		text = strings.ReplaceAll(text, dir, "DIR")
	}
	for _, v := range varies {
		text = v.is.ReplaceAllString(text, v.as)
	}
	path := filepath.Join(goldens, name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil || text != string(want) {
		t.Errorf("%v; go test ./agent/cmd/coinop-agent -run Golden -update writes %s anew, if this is as it should be:\n%s\nwant\n%s", err, path, text, want)
	}
}

// said is what a command said, as a golden file has it.
func said(args string, code int, out, errs string) string {
	text := fmt.Sprintf("$ coinop-agent %s\n%s", args, out)
	if errs != "" {
		text += "--- stderr\n" + errs
	}
	return fmt.Sprintf("%s--- ends with %d\n", text, code)
}

// TestGoldenHelp: the help of every command.
func TestGoldenHelp(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		args := strings.TrimPrefix(c.CommandPath()+" --help", "coinop-agent ")
		code, out, errs := call(t, nil, strings.Fields(args)...)
		all.WriteString(said(args, code, out, errs) + "\n")
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				each(sub)
			}
		}
	}
	each(newRoot(nil))
	golden(t, "help", all.String())
}

// TestGolden: the output and the exit code of every command that a technician types.
func TestGolden(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	identity(t, at("identity"))
	put := func(name, text string) {
		if err := os.WriteFile(at(name), []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records(t, at("stopped"))
	records(t, at("spoiled"))
	twin := must[[]byte](t)(os.ReadFile(at("spoiled/journal.twin")))
	twin[len(twin)/2] ^= 1
	put("spoiled/journal.twin", string(twin))
	runs(t, at("running"))
	const lanes = "cloud: 127.0.0.1:1\nlanes:\n  - vending: {port: DIR/vmc, products: [{item: 11, name: Cola, price: 1.50}]}\n    printer: {address: 127.0.0.1:1}\n"
	put("stopped.yaml", "identity: DIR/identity\ndata: DIR/stopped\n"+lanes)
	put("running.yaml", "identity: DIR/identity\ndata: DIR/running\n"+lanes)
	put("bad.yaml", "identity: DIR/identity\ndata: DIR/stopped\n"+lanes+"curency: EUR\ntimeouts: {wait: 1s}\n")
	put("new.dts", string(must[[]byte](t)(os.ReadFile("../../../hardware/dex/testdata/snack.dts"))))
	snack := stands(t, "snack")
	for _, c := range []struct {
		name, args string
		code       int
	}{
		{"version", "version", 0},
		{"unknown", "diagnose", exitUsage},
		{"run-nothing", "run", exitUsage},
		{"doctor", "doctor --config DIR/running.yaml", exitProblem},
		{"doctor-stopped", "doctor --config DIR/stopped.yaml", exitProblem},
		{"doctor-config", "doctor --config DIR/bad.yaml", exitProblem},
		{"doctor-nothing", "doctor", exitUsage},
		{"status", "status --data DIR/running", exitProblem},
		{"status-stopped", "status --data DIR/stopped", exitFailure},
		{"status-nowhere", "status --data DIR/nowhere", exitFailure},
		{"explain", "explain printer.paper_out cash.owed", 0},
		{"explain-json", "explain link.down --json", 0},
		{"explain-unknown", "explain paper", exitUsage},
		{"config-check", "config check DIR/running.yaml", 0},
		{"config-check-bad", "config check DIR/bad.yaml", exitProblem},
		{"config-check-here", "config check --here DIR/stopped.yaml", 0},
		{"config-explain", "config explain wait --config DIR/stopped.yaml", 0},
		{"config-explain-unknown", "config explain wiat", exitUsage},
		{"journal-list", "journal list --data DIR/stopped", 0},
		{"journal-verify", "journal verify --data DIR/stopped", 0},
		{"journal-verify-spoiled", "journal verify --data DIR/spoiled", exitProblem},
		{"cash-report", "cash report --data DIR/stopped", exitProblem},
		{"cash-collect", "cash collect --data DIR/stopped --person ana --bag 1", exitFailure},
		{"tamper-clear", "tamper clear --data DIR/stopped --by ana", exitFailure},
		{"receipt", "receipt --data DIR/stopped", 0},
		{"dex-show", "dex show DIR/new.dts", 0},
		{"support-bundle", "support bundle --config DIR/stopped.yaml --out DIR/b.tar.gz", 0},
		{"simulate", "simulate kiosk --dir DIR/kiosk", 0}, // the test's stdin ends at once
		{"simulate-unknown", "simulate boat --dir DIR/boat", exitUsage},
		{"setup", "setup --port SNACK/*", 0},
		{"setup-nothing", "setup --port DIR/none-*", exitProblem},
		{"test-printer", "test printer --config SNACK/" + profile.ConfigFile, 0},
		{"test-none", "test bill --config SNACK/" + profile.ConfigFile, exitProblem},
		{"test-unknown", "test beer --config SNACK/" + profile.ConfigFile, exitUsage},
	} {
		t.Run(c.name, func(t *testing.T) { // one after the other: two of them ask the same devices
			args := strings.NewReplacer("DIR", dir, "SNACK", snack.Dir).Replace(c.args)
			code, out, errs := call(t, nil, strings.Fields(args)...)
			if code != c.code {
				t.Errorf("ends with %d, want %d", code, c.code)
			}
			text := said(c.args, code, out, errs)
			text = strings.ReplaceAll(text, snack.Dir, "SNACK")
			if slices.Contains([]string{"setup", "simulate", "support-bundle"}, c.name) { // columns are as wide as what varies
				text = regexp.MustCompile(`(\S)  +`).ReplaceAllString(text, "$1  ")
			}
			if c.name == "doctor-stopped" {
				for _, u := range unkept {
					text = u.ReplaceAllString(text, "")
				}
			}
			golden(t, c.name, text, dir)
		})
	}
	t.Run("colour", func(t *testing.T) { // last: what it says is that of the other, painted
		args := []string{"doctor", "--config", at("running.yaml")}
		_, plain := onTTY(t, []string{"NO_COLOR=1"}, args...)
		code, painted := onTTY(t, nil, args...)
		if strings.Contains(plain, "\x1b") || !strings.Contains(painted, "\x1b") {
			t.Errorf("%q\n%q", plain, painted)
		}
		golden(t, "doctor-colour", strings.ReplaceAll(said("doctor --config DIR/running.yaml", code, painted, ""), "\x1b", "ESC"), dir)
		golden(t, "doctor", said("doctor --config DIR/running.yaml", code, plain, ""), dir)
	})
}

// onTTY runs the program at a terminal.
func onTTY(t *testing.T, env []string, args ...string) (code int, text string) {
	t.Helper()
	master := must[*os.File](t)(os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0))
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n := must[int](t)(unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN))
	slave := must[*os.File](t)(os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0))
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // ends with EIO, when the last has closed the other side
		read <- string(b)
	}()
	code = execute(t.Context(), args, env, slave, slave)
	_ = slave.Close()
	return code, strings.ReplaceAll(<-read, "\r\n", "\n")
}

// records makes a data folder in which a sale, change that did not all come out and a torn card stand.
func records(t *testing.T, data string) {
	t.Helper()
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	j := must[*journal.Journal](t)(journal.OpenBadger(filepath.Join(data, "journal"), journal.Options{
		Device: "snack-1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{7} },
	}))
	at := protocol.Reading{Wall: protocol.At(time.Now().Add(-2 * time.Hour))}
	sale, paid := protocol.SaleID{1, 2, 3}, protocol.PaymentID{4, 5, 6}
	eur := func(minor int64) money.Amount { return money.New(minor, money.EUR) }
	var all []protocol.Record
	for _, b := range []protocol.Body{
		protocol.SaleOpened{Class: protocol.Live, Due: eur(150)},
		protocol.CashIn{Payment: paid, Value: eur(200)},
		protocol.PaymentOutcome{Payment: paid, What: protocol.Capture, Amount: eur(150)},
		protocol.ChangeOrdered{Payment: paid, Amount: eur(50)},
		protocol.ChangePaid{Payment: paid, Given: eur(20), Short: eur(30), Reason: "jammed"},
		protocol.SaleClosed{How: protocol.Sold, Delivered: eur(150)},
	} {
		all = append(all, protocol.Record{Sale: sale, At: at, Body: b})
	}
	all = append(all, protocol.Record{At: at, Body: protocol.DeviceEvent{Code: string(code.CardTorn), Device: "lane 0 reader"}})
	if _, err := j.Append(all, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// runs has a data folder answer as an agent that runs there does, of a machine in which much is wrong.
func runs(t *testing.T, data string) {
	t.Helper()
	records(t, data)
	now := time.Now()
	since := now.Add(-3 * time.Minute)
	st := agent.Status{
		Running: agent.IsRunning, At: now, Device: "snack-1", Certificate: "4711", Software: "dev", Process: 4711, Since: since,
		Faults:  []code.Fault{code.Of(code.Tamper), code.Of(code.PrinterPaperOut), code.Of(code.LinkDown)},
		Storage: agent.StorageStatus{Fault: code.Of(code.StorageLow), Free: 96e6, Ballast: 16e6, Low: 128e6, Full: 48e6, Used: 5e6},
		Journal: agent.JournalStatus{Epoch: "07000000-0000-0000-0000-000000000000", Head: 8, Acked: 3, Known: true, Waiting: 5, Opened: "sound"},
		Clock:   &agent.ClockStatus{AheadMS: 20, RTTMS: 41, At: since},
		Link:    agent.LinkStatus{Cloud: "127.0.0.1:1", Way: "down", Acquirer: "not known", Heard: since},
		Box:     []agent.DeviceStatus{{Name: "temperature cabinet", State: "degraded", Code: code.SensorLost, Detail: "85.0 °C", Since: since}},
		Lanes: []agent.LaneStatus{{
			Phase: "idle", Refuses: "tamper", Tampered: true, DoorOpen: true,
			Selling: &agent.ModeStatus{Mode: agent.ModeCashOnly, Reason: code.LinkDown, Text: agent.ModeCashOnly.Text(), Since: since},
			Devices: []agent.DeviceStatus{
				{Name: "vmc", State: "ready", Code: "ready", Since: since},
				{Name: "reader", State: "absent", Code: code.PortLost, Detail: "EOF", Since: since, Count: 2},
				{Name: "printer", State: "fault", Code: code.PrinterPaperOut, Since: since},
			},
			Cash: &agent.CashStatus{Known: true, Change: "0.10 EUR", Exact: true, Tubes: []agent.Tube{{Value: "0.10 EUR", Count: 1}}},
		}},
		Lately:   []agent.Lately{{Fault: code.Of(code.CashOwed), Device: "lane 0", Detail: "0.30 EUR short, 0.20 EUR came out: jammed", At: since, Count: 1}},
		LastSale: &agent.LastSale{At: since, How: "sold", Charged: "1.50 EUR", Delivered: "1.50 EUR"},
	}
	answers(t, filepath.Join(data, "status.sock"), st)
	answers(t, filepath.Join(data, "control.sock"), agent.Reply{Pong: &agent.Pong{RTTMS: 41, Acquirer: true}})
}

// answers gives who connects a line of JSON.
func answers(t *testing.T, socket string, v any) {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("unix", socket))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = json.NewEncoder(c).Encode(v)
			_ = c.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}
