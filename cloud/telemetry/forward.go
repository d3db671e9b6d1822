package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"coinop/protocol"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	res "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// Limits of what a device may say, compressed and not, and of what waits for the receiver.
const (
	maxBody   = 64 << 10
	maxPlain  = 1 << 20
	queued    = 1024
	posts     = 4
	serviceID = "service.instance.id"
)

// Stats count what devices said, by what became of it; they only grow.
type Stats struct{ Forwarded, Large, Malformed, Foreign, Dropped, Failed atomic.Int64 }

// Stats are the counters; nil of a nil Telemetry.
func (t *Telemetry) Stats() *Stats {
	if t == nil {
		return nil
	}
	return &t.stats
}

// Why a body is not passed on.
var (
	ErrLarge     = fmt.Errorf("telemetry of more than %d bytes, or %d unpacked", maxBody, maxPlain)
	ErrMalformed = errors.New("no compressed OTLP")
	ErrForeign   = errors.New("telemetry of another device")
	ErrFull      = errors.New("the receiver of telemetry does not follow")
)

type body struct {
	leaf  protocol.Leaf
	bytes []byte
}

// Forward checks what a device said of itself and queues it for the receiver; it never waits. The body
// must be OTLP of the kind its topic names, and say of no other device; it is passed on as it is.
func (t *Telemetry) Forward(d protocol.DeviceID, leaf protocol.Leaf, b []byte) error {
	if t == nil {
		return nil
	}
	if err := Check(d, leaf, b); err != nil {
		switch {
		case errors.Is(err, ErrLarge):
			t.stats.Large.Add(1)
		case errors.Is(err, ErrForeign):
			t.stats.Foreign.Add(1)
		default:
			t.stats.Malformed.Add(1)
		}
		return err
	}
	select {
	case t.queue <- body{leaf, b}:
		return nil
	default:
		t.stats.Dropped.Add(1)
		return ErrFull
	}
}

// Check reports what is wrong with a body: ErrLarge, ErrMalformed or ErrForeign.
func Check(d protocol.DeviceID, leaf protocol.Leaf, b []byte) error {
	if len(b) > maxBody {
		return ErrLarge
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxPlain+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	case len(plain) > maxPlain:
		return ErrLarge
	}
	about, err := resources(leaf, plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, r := range about {
		if !of(d, r) {
			return ErrForeign
		}
	}
	return nil
}

// resources are what the parts of a request say they are of.
func resources(leaf protocol.Leaf, b []byte) (out []*res.Resource, err error) {
	switch leaf {
	case protocol.UpTraces:
		var q coltrace.ExportTraceServiceRequest
		err = proto.Unmarshal(b, &q)
		for _, p := range q.GetResourceSpans() {
			out = append(out, p.GetResource())
		}
	case protocol.UpMetrics:
		var q colmetrics.ExportMetricsServiceRequest
		err = proto.Unmarshal(b, &q)
		for _, p := range q.GetResourceMetrics() {
			out = append(out, p.GetResource())
		}
	case protocol.UpLogs:
		var q collogs.ExportLogsServiceRequest
		err = proto.Unmarshal(b, &q)
		for _, p := range q.GetResourceLogs() {
			out = append(out, p.GetResource())
		}
	default:
		err = fmt.Errorf("no signal %s", leaf)
	}
	if err == nil && len(out) == 0 {
		err = errors.New("it is empty")
	}
	return out, err
}

// of reports whether a resource is the device's: it says so once, and says so of no other.
func of(d protocol.DeviceID, r *res.Resource) bool {
	n := 0
	for _, a := range r.GetAttributes() {
		if a.GetKey() != serviceID {
			continue
		}
		n++
		if v, ok := a.GetValue().GetValue().(*common.AnyValue_StringValue); !ok || v.StringValue != string(d) {
			return false
		}
	}
	return n == 1
}

// post sends what is queued, until ctx ends.
func (t *Telemetry) post(ctx context.Context) {
	for {
		select {
		case b := <-t.queue:
			if err := t.send(ctx, b); err != nil && ctx.Err() == nil {
				if t.stats.Failed.Add(1) == 1 {
					t.cfg.Log.Warn("telemetry of devices is not taken", "error", err, "check", "is the receiver at OTEL_EXPORTER_OTLP_ENDPOINT up? it is told once")
				}
				continue
			}
			t.stats.Forwarded.Add(1)
		case <-ctx.Done():
			return
		}
	}
}

func (t *Telemetry) send(ctx context.Context, b body) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, t.urls[b.leaf], bytes.NewReader(b.bytes))
	if err != nil {
		return err
	}
	for k, v := range t.cfg.Headers {
		q.Header.Set(k, v)
	}
	q.Header.Set("Content-Type", "application/x-protobuf")
	q.Header.Set("Content-Encoding", "gzip")
	a, err := t.client.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(a.Body, 1<<20))
	if a.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver says %s", a.Status)
	}
	return nil
}
