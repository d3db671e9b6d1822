package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"coinop/agent"
	"coinop/hardware/probe"
	"coinop/protocol"
	"coinop/protocol/card"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newSupport(env []string) *cobra.Command {
	c := &cobra.Command{Use: "support", Short: "Pack what support wants to see"}
	c.AddCommand(newBundle(env))
	return c
}

// bundleRecords is how many records a bundle tells of.
const bundleRecords = 500

func newBundle(env []string) *cobra.Command {
	var file, out string
	c := &cobra.Command{
		Use: "bundle", Short: "Write one file with all that support wants to see, and no secret", Args: cobra.NoArgs,
		Long: `Bundle packs what doctor and status say, the configuration, the last records by
their kinds, the ports, the log and what the kernel said. It holds no key, no
password, and no card: what looks like a card's number is masked everywhere,
and of records only kind, time and lane, and what devices said, are told.
Look into it before you send it: tar tzf FILE.`,
		Example: "  coinop-agent support bundle --config /etc/coinop/agent.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "config"); err != nil {
				return err
			}
			if file == "" {
				return usage("--config is missing: the file that run was given")
			}
			now := time.Now()
			if out == "" {
				host, _ := os.Hostname()
				out = fmt.Sprintf("support-%s-%s.tar.gz", host, now.UTC().Format("20060102T150405Z"))
			}
			parts := bundle(c.Context(), file, env)
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // as asked
			if err != nil {
				return err
			}
			err = pack(f, now, parts)
			st, _ := f.Stat()
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			for _, p := range parts {
				_, _ = fmt.Fprintf(c.OutOrStdout(), "%-14s %7d bytes  %s\n", p.name, len(p.text), p.note)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s (%.1f KB)\n", out, float64(st.Size())/1000)
			return err
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration `file` (required)")
	c.Flags().StringVar(&out, "out", "", "`file` to write; else support-HOST-TIME.tar.gz here")
	return c
}

// bundled is a file of a bundle.
type bundled struct{ name, text, note string }

// bundle gathers; what cannot be had says so in its place.
func bundle(ctx context.Context, file string, env []string) []bundled {
	var out []bundled
	add := func(name string, text []byte, err error) {
		note := ""
		if err != nil {
			note = "not whole: " + err.Error()
			text = append(text, "\n"+note+"\n"...)
		}
		out = append(out, bundled{name, card.Scrub(string(text)), card.Scrub(note)})
	}
	d := diagnosis{At: time.Now(), Software: version}
	var x agent.Exam
	d.Findings = append(examFile(file, env, nil, &x), agent.Examine(ctx, x)...)
	text, err := json.MarshalIndent(d, "", "  ")
	add("doctor.json", text, err)
	st, err := agent.AskStatus(x.Data)
	text, _ = json.MarshalIndent(st, "", "  ")
	add("status.json", text, err)
	text, err = os.ReadFile(file) //nolint:gosec // as asked
	add("agent.yaml", withoutSecrets(text), err)
	text, err = recordHeads(x.Data)
	add("journal.txt", text, err)
	add("ports.txt", []byte(strings.Join(probe.Ports("/dev"), "\n")+"\n"), nil)
	add("system.txt", system(x.Data), nil)
	text, err = kernel()
	add("kernel.txt", text, err)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	text, err = exec.CommandContext(ctx, "journalctl", "--unit=coinop-agent", "--lines=2000", "--no-pager", "--output=short-iso").CombinedOutput()
	add("log.txt", text, err)
	return out
}

// withoutSecrets masks what a file says under keys that name a secret. Ours are files of their own; a hand may
// have written one in all the same.
func withoutSecrets(text []byte) []byte {
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		key, _, found := strings.Cut(l, ":")
		low := strings.ToLower(key)
		for _, word := range []string{"password", "secret", "token", "private"} {
			if found && strings.Contains(low, word) && !strings.HasSuffix(strings.TrimSpace(low), "_file") {
				lines[i] = key + ": (masked)"
			}
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// recordHeads are the last records, without what was bought and by whom.
func recordHeads(data string) ([]byte, error) {
	o := chosen{data: data, lane: -1}
	var lines []string
	p, err := o.read(func(r protocol.Opened) {
		line := fmt.Sprintf("%d %s lane %d %s", r.Position.Seq, r.At.Wall.Time().UTC().Format(time.RFC3339), r.Lane, r.Body.Kind())
		switch r.Body.(type) {
		case protocol.DeviceEvent, protocol.Booted, protocol.ClockAnchor:
			line += " " + says(r.Body)
		}
		if lines = append(lines, line); len(lines) > 2*bundleRecords {
			lines = append(lines[:0], lines[len(lines)-bundleRecords:]...)
		}
	})
	lines = lines[max(0, len(lines)-bundleRecords):]
	if err == nil && p.Chain != nil {
		err = p.Chain
	}
	return []byte(strings.Join(lines, "\n") + "\n"), err
}

func system(data string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "coinop-agent %s, protocol %d\n", version, protocol.Version)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Fprintf(&b, "%s %s %s\n", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
	}
	for _, path := range []string{"/etc/os-release", "/proc/uptime", "/proc/meminfo", "/proc/loadavg"} {
		if text, err := os.ReadFile(path); err == nil {
			fmt.Fprintf(&b, "\n== %s\n%s", path, text)
		}
	}
	var fs unix.Statfs_t
	if unix.Statfs(data, &fs) == nil {
		fmt.Fprintf(&b, "\n== disk of %s\n%d of %d MB free, %d of %d files\n", data, int64(fs.Bavail)*int64(fs.Bsize)>>20, int64(fs.Blocks)*int64(fs.Bsize)>>20, fs.Ffree, fs.Files) //nolint:gosec,unconvert // of a disk; on arm it is an int32
	}
	if thermal, err := filepath.Glob("/sys/class/thermal/thermal_zone*/temp"); err == nil {
		for _, path := range thermal {
			text, _ := os.ReadFile(path) //nolint:gosec // the kernel's
			fmt.Fprintf(&b, "\n== %s\n%s", path, text)
		}
	}
	return b.Bytes()
}

// kernel is the end of what the kernel said.
func kernel() ([]byte, error) {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	buf := make([]byte, 256<<10)
	n, err := unix.Klogctl(readAll, buf)
	if err != nil {
		return nil, fmt.Errorf("the kernel's log: %w; try as root", err)
	}
	return buf[:n], nil
}

func pack(w io.Writer, now time.Time, parts []bundled) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, p := range parts {
		h := &tar.Header{Name: "support/" + p.name, Mode: 0o600, Size: int64(len(p.text)), ModTime: now, Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write([]byte(p.text)); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
