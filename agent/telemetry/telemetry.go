// Package telemetry is what an agent tells of itself to those who run the fleet, by OpenTelemetry:
// one trace a sale, metrics, and its log. The exporters are OpenTelemetry's own for OTLP over HTTP;
// what they would post is put into a ring, and the owner of the connection publishes it on MQTT.
//
//	t, err := telemetry.New(telemetry.Config{Device: "snack-1", Software: "1.2"})
//	log = slog.New(t.Handler(log.Handler()))
//	t.Sale(records)                    // of a sale that has ended
//	for { b, err := t.Next(ctx); ... } // publish b.Bytes on b.Leaf with QoS 0
//
// It never waits, and nothing waits for it: the ring is bounded, and when it is full the oldest goes.
// What is lost here is lost; about money the journal says everything.
package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"coinop/protocol"
	"coinop/protocol/card"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config of New. Device is needed.
type Config struct {
	Device   protocol.DeviceID
	Software string
	Every    time.Duration // between two readings of the metrics; 60 s. Traces and log leave after a tenth of it
	Gauges   []Gauge       // read with the metrics
}

// Gauge is a figure that is read when the metrics are; Read may be called from any goroutine.
type Gauge struct {
	Name, Unit, Help string
	Read             func() int64
	Sensor           string      // its attribute sensor; "": none
	Has              func() bool // false: there is nothing to read now; nil: always
}

// Limits of what waits to be published, and of one body, compressed: the cloud takes no larger one.
const (
	ringBodies = 64
	ringBytes  = 1 << 20
	MaxBody    = 64 << 10
	batch      = 32 // spans or lines of log a body: 3 KB compressed, 0.4 s of a line of 64 kbit/s
)

// Body is a compressed OTLP request to be published.
type Body struct {
	Leaf  protocol.Leaf
	Bytes []byte
}

// Telemetry is safe for concurrent use.
type Telemetry struct {
	ring    ring
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	logs    *sdklog.LoggerProvider
	tracer  trace.Tracer

	sales  metric.Int64Counter
	asked  metric.Float64Histogram
	vended metric.Float64Histogram
}

// New starts the exporters; Close ends them.
func New(cfg Config) (_ *Telemetry, err error) {
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	t := &Telemetry{ring: ring{wake: make(chan struct{}, 1)}}
	client := &http.Client{Transport: &t.ring}
	// No endpoint of the environment is meant: what leaves this machine leaves by its one connection.
	const nowhere = "http://mqtt.invalid/v1/"
	ctx := context.Background()
	spans, err1 := otlptracehttp.New(ctx, otlptracehttp.WithHTTPClient(client), otlptracehttp.WithEndpointURL(nowhere+"traces"),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	figures, err2 := otlpmetrichttp.New(ctx, otlpmetrichttp.WithHTTPClient(client), otlpmetrichttp.WithEndpointURL(nowhere+"metrics"),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	lines, err3 := otlploghttp.New(ctx, otlploghttp.WithHTTPClient(client), otlploghttp.WithEndpointURL(nowhere+"logs"),
		otlploghttp.WithCompression(otlploghttp.GzipCompression))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	about := resource.NewSchemaless(
		attribute.String("service.name", "coinop-agent"), attribute.String("service.version", cfg.Software),
		attribute.String("service.instance.id", string(cfg.Device)),
	)
	soon := cfg.Every / 10
	t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithIDGenerator(ids{}),
		sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(soon), sdktrace.WithMaxExportBatchSize(batch)))
	t.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithResource(about),
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(figures, sdkmetric.WithInterval(cfg.Every))))
	t.logs = sdklog.NewLoggerProvider(sdklog.WithResource(about),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(lines, sdklog.WithExportInterval(soon), sdklog.WithExportMaxBatchSize(batch))))
	t.tracer = t.traces.Tracer("coinop/agent")
	return t, t.instruments(cfg.Gauges)
}

func (t *Telemetry) instruments(gauges []Gauge) error {
	m := t.metrics.Meter("coinop/agent")
	var err1, err2, err3 error
	t.sales, err1 = m.Int64Counter("coinop.sales", metric.WithUnit("{sale}"), metric.WithDescription("Sales that ended, by how."))
	buckets := metric.WithExplicitBucketBoundaries(.1, .25, .5, 1, 2, 3, 5, 8, 12, 20, 30, 60)
	t.asked, err2 = m.Float64Histogram("coinop.authorization.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("From asking the bank to its answer, by result."))
	t.vended, err3 = m.Float64Histogram("coinop.vend.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("From the approval of a vend to its end, by result."))
	errs := []error{err1, err2, err3}
	gauges = append(gauges, Gauge{Name: "coinop.telemetry.dropped", Unit: "{body}", Help: "Telemetry that found no room.", Read: t.ring.Dropped})
	for i, first := range gauges {
		same := func(g Gauge) bool { return g.Name == first.Name }
		if slices.IndexFunc(gauges, same) < i {
			continue // an instrument takes callbacks only when it is made
		}
		_, err := m.Int64ObservableGauge(first.Name, metric.WithUnit(first.Unit), metric.WithDescription(first.Help),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				for _, g := range gauges {
					if same(g) {
						g.observe(o)
					}
				}
				return nil
			}))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g Gauge) observe(o metric.Int64Observer) {
	switch {
	case g.Has != nil && !g.Has():
	case g.Sensor != "":
		o.Observe(g.Read(), metric.WithAttributes(attribute.String("sensor", g.Sensor)))
	default:
		o.Observe(g.Read())
	}
}

// Handler is h and the log of OpenTelemetry beside it, which gets what h is enabled for. Card data is masked.
func (t *Telemetry) Handler(h slog.Handler) slog.Handler {
	return both{h, card.LogHandler(otelslog.NewHandler("coinop/agent", otelslog.WithLoggerProvider(t.logs)))}
}

// Next waits for a body to publish.
func (t *Telemetry) Next(ctx context.Context) (Body, error) { return t.ring.next(ctx) }

// Back puts a body back that could not be published: before all others, while there is room.
func (t *Telemetry) Back(b Body) { t.ring.back(b) }

// Close flushes what is known into the ring, and ends. Next gives it still.
func (t *Telemetry) Close(ctx context.Context) error {
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx), t.logs.Shutdown(ctx))
}

// ring is the exporters' way out: http.RoundTripper on one side, Next on the other.
type ring struct {
	mu      sync.Mutex // guards what follows
	bodies  []Body
	bytes   int
	dropped int64
	wake    chan struct{}
}

var leaves = map[string]protocol.Leaf{"traces": protocol.UpTraces, "metrics": protocol.UpMetrics, "logs": protocol.UpLogs}

// RoundTrip takes a body, and says 200: whether it arrives nobody will know.
func (r *ring) RoundTrip(q *http.Request) (*http.Response, error) {
	defer q.Body.Close()
	b, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	leaf, ok := leaves[path.Base(q.URL.Path)]
	if !ok {
		return nil, fmt.Errorf("telemetry: no topic for %s", q.URL.Path)
	}
	r.put(Body{leaf, b})
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: q,
		Header: http.Header{"Content-Type": {"application/x-protobuf"}}, Body: io.NopCloser(bytes.NewReader(nil)),
	}, nil
}

func (r *ring) put(b Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(b.Bytes) > MaxBody {
		r.dropped++
		return
	}
	r.bodies = append(r.bodies, b)
	r.bytes += len(b.Bytes)
	for len(r.bodies) > ringBodies || r.bytes > ringBytes {
		r.bytes -= len(r.bodies[0].Bytes)
		r.bodies = r.bodies[1:]
		r.dropped++
	}
	r.knock()
}

func (r *ring) knock() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *ring) back(b Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bodies) == ringBodies || r.bytes+len(b.Bytes) > ringBytes {
		r.dropped++
		return
	}
	r.bodies = append([]Body{b}, r.bodies...)
	r.bytes += len(b.Bytes)
	r.knock()
}

func (r *ring) next(ctx context.Context) (Body, error) {
	for {
		r.mu.Lock()
		if len(r.bodies) > 0 {
			b := r.bodies[0]
			r.bodies = r.bodies[1:]
			r.bytes -= len(b.Bytes)
			r.mu.Unlock()
			return b, nil
		}
		r.mu.Unlock()
		select {
		case <-r.wake:
		case <-ctx.Done():
			return Body{}, context.Cause(ctx)
		}
	}
}

// Dropped is how many bodies found no room.
func (r *ring) Dropped() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// both writes to two handlers.
type both struct{ first, second slog.Handler }

func (b both) Enabled(ctx context.Context, l slog.Level) bool { return b.first.Enabled(ctx, l) }

func (b both) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(b.first.Handle(ctx, r.Clone()), b.second.Handle(ctx, r))
}

func (b both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{b.first.WithAttrs(a), b.second.WithAttrs(a)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b.first.WithGroup(name), b.second.WithGroup(name)}
}
