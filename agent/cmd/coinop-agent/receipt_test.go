package main

import (
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReceipt(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if code, out, _ := call(t, nil, "receipt", "--data", data); code != 0 || out != "no receipts yet\n" {
		t.Errorf("%d %q", code, out)
	}
	dir := filepath.Join(data, "receipts")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"0199a1b2-0000-7000-8000-0000deadbeef": `{"machine":"snack-1","sale":"0199a1b2-0000-7000-8000-0000deadbeef","at":"2026-11-24T14:02:15Z","items":[{"name":"Cola","price":{"Minor":150,"Currency":"EUR"},"state":"failed"}],"charged":{"Minor":0,"Currency":"EUR"},"last4":"0119"}`,
		"0199a1b3-0000-7000-8000-000000000001": `{"machine":"snack-1","sale":"0199a1b3-0000-7000-8000-000000000001","at":"2026-11-24T14:03:15Z","charged":{"Minor":275,"Currency":"EUR"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"COINOP_DATA": data}
	code, out, _ := call(t, env, "receipt")
	if lines := strings.Split(out, "\n"); code != 0 || !strings.Contains(lines[1], "0000 0001") || !strings.Contains(lines[2], "Cola (failed)") {
		t.Errorf("%d\n%s", code, out)
	}
	for _, ref := range [][]string{{"DEAD BEEF"}, {"dead", "beef"}, {"BEEF"}} {
		if code, out, _ := call(t, env, append([]string{"receipt", "--columns", "32"}, ref...)...); code != 0 || !strings.Contains(out, "NOT CHARGED             0.00 EUR\n") {
			t.Errorf("%q: %d\n%s", ref, code, out)
		}
	}
	if code, out, _ := call(t, env, "receipt", "last"); code != 0 || !strings.Contains(out, "2.75 EUR") {
		t.Errorf("%d\n%s", code, out)
	}
	picture := filepath.Join(t.TempDir(), "r.png")
	if code, _, errs := call(t, env, "receipt", "last", "--png", picture); code != 0 {
		t.Error(errs)
	}
	f, err := os.Open(picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.Decode(f); err != nil || img.Bounds().Dx() != 48*12+32 {
		t.Error(err)
	}
	for _, c := range []struct{ args, want string }{
		{"receipt XXXX", "there is no receipt XXXX; coinop-agent receipt lists"},
		{"receipt --png x.png", "of which receipt?"},
		{"receipt --columns 3", "16 to 80"},
	} {
		if code, _, errs := call(t, env, strings.Fields(c.args)...); !refused(code) || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %s", c.args, code, errs)
		}
	}
	if code, _, errs := call(t, nil, "receipt"); !refused(code) || !strings.Contains(errs, "--data is missing") {
		t.Errorf("%d %s", code, errs)
	}
}
