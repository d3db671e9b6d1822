package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeysStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := OpenKeys(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenKeys(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, _ := first.Cloud()
	b, err := again.Cloud()
	if err != nil || !bytes.Equal(a.RelayKey, b.RelayKey) || !bytes.Equal(a.PaymentKey, b.PaymentKey) || !bytes.Equal(a.SigningKey, b.SigningKey) ||
		!bytes.Equal(first.Anchor, again.Anchor) || !first.Authority.Cert.Equal(again.Authority.Cert) {
		t.Fatalf("other keys the second time (%v)", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
	// A device's certificate of the first is good for the second.
	d, err := first.Authority.Device("snack-1", time.Now(), a)
	if err != nil {
		t.Fatal(err)
	}
	if id, _, err := again.Authority.PublicKeyOf(d.Cert, time.Now()); err != nil || id != "snack-1" {
		t.Fatal(id, err)
	}
}

func TestKeysSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenKeys(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{relayFile, signingFile, authorityCertFile, anchorFile} {
		good, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeys(dir, time.Now()); err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("%s: %v", f, err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A root whose key is another's.
	if err := os.Remove(filepath.Join(dir, authorityKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeys(dir, time.Now()); err == nil || !strings.Contains(err.Error(), authorityCertFile) {
		t.Error(err)
	}
}
