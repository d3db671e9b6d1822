package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The interface serves while the cloud runs, and ends with it; it does not listen for strangers.
func TestHTTPInterface(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":8880", "192.0.2.1:80", "example.com:80"} {
		if _, err := listenAPI(addr); !errors.Is(err, ErrExposed) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", ReadyHTTP: func(a string) { ready <- a }})
	}()
	var addr string
	select {
	case addr = <-ready:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
	for path, want := range map[string]string{
		"/healthz": `"ok":true`, "/api/v1/sales": `"sales":[]`, "/api/v1/devices": `"devices":[]`, "/api/v1/cases": `"cases":[]`,
		"/metrics": `coinop_broker_offences_total{reason="denied"} 0`, "/openapi.json": `"openapi":"3.1.0"`,
	} {
		res, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), want) {
			t.Errorf("%s: %d %v\n%.300s", path, res.StatusCode, err, b)
		}
		if strings.HasSuffix(path, ".json") && !json.Valid(b) {
			t.Error("the document is not JSON")
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("did not end")
	}
	if _, err := http.Get("http://" + addr + "/healthz"); err == nil {
		t.Error("still answers")
	}
}
