package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	res "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func zip(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// traces are a request with a part for each list of devices it says it is of.
func traces(t testing.TB, parts ...[]string) []byte {
	t.Helper()
	q := &coltrace.ExportTraceServiceRequest{}
	for _, ids := range parts {
		r := &res.Resource{}
		for _, id := range ids {
			r.Attributes = append(r.Attributes, &common.KeyValue{Key: serviceID, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: id}}})
		}
		q.ResourceSpans = append(q.ResourceSpans, &tracepb.ResourceSpans{Resource: r})
	}
	b, err := proto.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCheck: only a device's own telemetry, of the kind its topic names, within the limits.
func TestCheck(t *testing.T) {
	t.Parallel()
	good := zip(t, traces(t, []string{"snack-1"}))
	for _, c := range []struct {
		name string
		leaf protocol.Leaf
		b    []byte
		want error
	}{
		{"its own", protocol.UpTraces, good, nil},
		{"two parts of its own", protocol.UpTraces, zip(t, traces(t, []string{"snack-1"}, []string{"snack-1"})), nil},
		{"another's", protocol.UpTraces, zip(t, traces(t, []string{"snack-2"})), ErrForeign},
		{"another's in the second part", protocol.UpTraces, zip(t, traces(t, []string{"snack-1"}, []string{"snack-2"})), ErrForeign},
		{"both", protocol.UpTraces, zip(t, traces(t, []string{"snack-1", "snack-2"})), ErrForeign},
		{"nobody's", protocol.UpTraces, zip(t, traces(t, nil)), ErrForeign},
		{"nothing", protocol.UpTraces, zip(t, nil), ErrMalformed},
		{"not compressed", protocol.UpTraces, traces(t, []string{"snack-1"}), ErrMalformed},
		{"cut off", protocol.UpTraces, good[:len(good)-3], ErrMalformed},
		{"no protobuf", protocol.UpTraces, zip(t, []byte("\xff\xff\xff")), ErrMalformed},
		{"no signal", "up/otlp/profiles", good, ErrMalformed},
		{"large", protocol.UpTraces, make([]byte, maxBody+1), ErrLarge},
		{"a bomb", protocol.UpTraces, zip(t, make([]byte, maxPlain+1)), ErrLarge},
	} {
		if err := Check("snack-1", c.leaf, c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(traces(f, []string{"snack-1"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		for _, leaf := range []protocol.Leaf{protocol.UpTraces, protocol.UpMetrics, protocol.UpLogs} {
			_ = Check("snack-1", leaf, zip(t, plain))
		}
	})
}

// TestForward: what is good arrives as it was, with the headers; a receiver that hangs stops nobody.
func TestForward(t *testing.T) {
	t.Parallel()
	type posted struct {
		path, key, coding string
		body              []byte
	}
	got := make(chan posted, 16)
	hold := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		select {
		case got <- posted{q.URL.Path, q.Header.Get("X-Key"), q.Header.Get("Content-Encoding"), b}:
		default:
			<-hold
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer srv.Close()
	defer close(hold)
	tel, err := Start(t.Context(), Config{Endpoint: srv.URL + "/otel", Headers: map[string]string{"X-Key": "k"}, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	b := zip(t, traces(t, []string{"snack-1"}))
	if err := tel.Forward("snack-1", protocol.UpTraces, b); err != nil {
		t.Fatal(err)
	}
	if p := <-got; p.path != "/otel/v1/traces" || p.key != "k" || p.coding != "gzip" || !bytes.Equal(p.body, b) {
		t.Errorf("%+v", p)
	}
	if err := tel.Forward("snack-2", protocol.UpTraces, b); !errors.Is(err, ErrForeign) || tel.Stats().Foreign.Load() != 1 {
		t.Error(err)
	}
	full := 0
	for range queued + 100 {
		if errors.Is(tel.Forward("snack-1", protocol.UpTraces, b), ErrFull) {
			full++
		}
	}
	if full == 0 || tel.Stats().Dropped.Load() != int64(full) {
		t.Errorf("%d found no room, %d counted", full, tel.Stats().Dropped.Load())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = tel.Close(ctx)
}

// TestLevel: what the log is not enabled for is not exported either.
func TestLevel(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 16)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		if z, err := gzip.NewReader(q.Body); err == nil && q.URL.Path == "/v1/logs" {
			b, _ := io.ReadAll(z)
			bodies <- string(b)
		}
	}))
	defer srv.Close()
	tel, err := Start(t.Context(), Config{Endpoint: srv.URL, Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(tel.Handler(slog.NewTextHandler(io.Discard, nil))).With("a", 1).WithGroup("g")
	log.Debug("not to be seen")
	log.Info("to be seen")
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := <-bodies; !strings.Contains(b, "to be seen") || strings.Contains(b, "not to be seen") {
		t.Errorf("%q", b)
	}
}

// TestNil: without a receiver everything may be called, and nothing is done.
func TestNil(t *testing.T) {
	t.Parallel()
	var tel *Telemetry
	tel.Asked(protocol.AuthorizationRequest{})(nil)
	tel.Host(acquirer.Op{})(acquirer.Answer{}, nil)
	tel.Answered(protocol.PaymentID{})(nil)
	if tel.Forward("x", protocol.UpLogs, []byte("x")) != nil || tel.Stats() != nil || tel.Close(t.Context()) != nil {
		t.Error("a nil Telemetry does something")
	}
	for _, bad := range []string{"", "collector:4318", "ftp://x", "http://"} {
		if _, err := Start(t.Context(), Config{Endpoint: bad}); !errors.Is(err, ErrEndpoint) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
