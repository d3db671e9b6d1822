package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call runs the program with an environment of its own.
func call(t *testing.T, env map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	code = execute(t.Context(), args, list, &o, &e)
	return code, o.String(), e.String()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	code, out, _ := call(t, map[string]string{"COINOP_HELP": "no"}, "run", "--help")
	if code != 0 {
		t.Fatal(code)
	}
	for _, want := range []string{"--identity", "--ready-file", "/dev/serial/by-id", "COINOP_SCALE_FACTOR", "coinop-agent run --identity"} {
		if !strings.Contains(out, want) {
			t.Errorf("the help does not name %s", want)
		}
	}
	for _, line := range strings.Split(long, "\n") {
		if len(line) > 80 {
			t.Errorf("too long for a terminal: %s", line)
		}
	}
	if code, out, _ := call(t, nil, "version"); code != 0 || !strings.Contains(out, "protocol 1") {
		t.Errorf("%d %q", code, out)
	}
}

// Everything that is wrong is said at once, by flag and with what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all := []string{"run", "--identity", dir, "--data", filepath.Join(dir, "data"), "--cloud", "127.0.0.1:1", "--vmc", "v", "--reader", "r"}
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		want []string
	}{
		"nothing":       {nil, []string{"run"}, []string{"--identity is missing", "--reader is missing", "--help"}},
		"currency":      {nil, append(all[:len(all):len(all)], "--currency", "EURO"), []string{"EURO", "ISO 4217"}},
		"scale":         {nil, append(all[:len(all):len(all)], "--scale-factor", "3", "--decimals", "3"), []string{"--scale-factor"}},
		"wait":          {nil, append(all[:len(all):len(all)], "--wait", "2s"), []string{"--wait 2s: want 5s to 28s"}},
		"log":           {nil, append(all[:len(all):len(all)], "--log", "xml"), []string{"text or json"}},
		"environment":   {map[string]string{"COINOP_VEND_TIMEOUT": "soon"}, all, []string{"COINOP_VEND_TIMEOUT", "soon"}},
		"from the env":  {map[string]string{"COINOP_CLOUD": "c:1", "COINOP_VMC": "v"}, []string{"run"}, []string{"--identity is missing"}},
		"no identity":   {nil, all, []string{"--identity", dir, "device.crt is missing"}},
		"unknown flag":  {nil, append(all[:len(all):len(all)], "--vcm", "x"), []string{"--vcm"}},
		"not a command": {nil, []string{"start"}, []string{"start"}},
	} {
		code, _, errs := call(t, c.env, c.args...)
		if code != exitUsage && name != "no identity" || name == "no identity" && code != exitFailure {
			t.Errorf("%s: ends with %d", name, code)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q does not say %q", name, errs, want)
			}
		}
		if name == "from the env" && strings.Contains(errs, "--cloud") {
			t.Errorf("the environment was not read: %q", errs)
		}
	}
}

// refused: a command could not do what it was asked, or nobody can.
func refused(code int) bool { return code == exitFailure || code == exitUsage }

func TestReadyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ready")
	if err := appear(path); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(text), "\n") {
		t.Errorf("%q %v", text, err)
	}
	if err := appear(filepath.Join(path, "x")); err == nil {
		t.Error("no error")
	}
}
