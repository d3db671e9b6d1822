package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop/agent/journal"
	"coinop/protocol"
)

// A bundle tells of everything, and holds neither key nor password nor card.
func TestBundle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := someRecords(t)
	const pan, password = "4761739001010010", "hunter2-473911"
	j, err := journal.OpenBadger(filepath.Join(data, "journal"), journal.Options{Device: "snack-1", NewEpoch: func() protocol.Epoch { return protocol.Epoch{7} }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append([]protocol.Record{{Body: protocol.DeviceEvent{Code: "garbage", Device: "reader", Detail: "it said " + pan}}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t, dir)
	secret, file, out := filepath.Join(dir, "zvt"), filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "b.tar.gz")
	text := "identity: " + id + "\ndata: " + data + "\ncloud: 127.0.0.1:1\n# password: " + password + "\n# a card of ours: " + pan +
		"\nlanes:\n  - vending: {port: /dev/ttyUSB0}\n    terminal: {address: 127.0.0.1:2, password_file: " + secret + "}\n"
	for path, text := range map[string]string{secret: "473911\n", file: text} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, said, errs := call(t, nil, "support", "bundle", "--config", file, "--out", out)
	if code != 0 || !strings.Contains(said, "wrote "+out) {
		t.Fatalf("%d %s%s", code, said, errs)
	}
	if st, err := os.Stat(out); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
		all.Write(text)
	}
	for name, want := range map[string]string{
		"doctor.json": `"agent.not_running"`, "status.json": `"not_running"`, "agent.yaml": "password_file: " + secret,
		"journal.txt": "SaleClosed", "system.txt": "coinop-agent dev", "log.txt": "", "kernel.txt": "", "ports.txt": "",
	} {
		if got, ok := files["support/"+name]; !ok || !strings.Contains(got, want) {
			t.Errorf("%s does not say %q:\n%s", name, want, got)
		}
	}
	key, err := os.ReadFile(filepath.Join(id, "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	for what, never := range map[string]string{"the card": pan, "a password": password, "the terminal's password": "473911\n", "the key": strings.Split(string(key), "\n")[1]} {
		if strings.Contains(all.String(), never) {
			t.Errorf("%s is in it", what)
		}
	}
	if code, _, _ := call(t, nil, "support", "bundle", "--config", file, "--out", out); code != exitFailure {
		t.Errorf("written over: %d", code)
	}
}
