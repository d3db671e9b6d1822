// Package telemetry is the cloud's side of OpenTelemetry: spans of what is done for a sale, in the
// trace that the sale's own id names, the log and the metrics of this process, and what devices say of
// themselves, passed on to the same receiver (OTEL_EXPORTER_OTLP_ENDPOINT).
//
//	t, err := telemetry.Start(ctx, telemetry.Config{Endpoint: os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), ...})
//	done := t.Asked(request); ...; done(err)
//	t.Forward("snack-1", protocol.UpTraces, body)
//
// Nothing waits for the receiver: every queue is bounded, what finds no room is dropped and counted. A
// nil Telemetry does nothing, and costs nothing.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"coinop/cloud/acquirer"
	"coinop/protocol"
	"coinop/protocol/card"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config of Start. Endpoint is needed.
type Config struct {
	Endpoint string            // http://host:4318, OTLP over HTTP
	Headers  map[string]string // of each request: a key the receiver wants
	Version  string
	Replica  string // of this process, among several; ""
	Every    time.Duration
	Gatherer prometheus.Gatherer // what /metrics shows; nil: no metrics
	// Sale finds the sale of a payment, for what is done long after it was asked; nil: such spans are left out.
	Sale func(context.Context, protocol.PaymentID) (protocol.SaleID, bool)
	Log  *slog.Logger // of trouble with the receiver
}

// Telemetry is safe for concurrent use.
type Telemetry struct {
	cfg     Config
	urls    map[protocol.Leaf]string
	client  *http.Client
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	logs    *sdklog.LoggerProvider
	tracer  trace.Tracer
	queue   chan body
	end     context.CancelFunc
	workers sync.WaitGroup
	stats   Stats

	mu     sync.Mutex // guards what follows
	sales  map[protocol.PaymentID]protocol.SaleID
	recent []protocol.PaymentID
}

// salesKept bounds what is remembered of which payment is of which sale.
const salesKept = 4096

// ErrEndpoint means an Endpoint that is no URL.
var ErrEndpoint = errors.New(`OTEL_EXPORTER_OTLP_ENDPOINT: want a URL like http://collector.example.com:4318`)

// Start begins to export; Close ends it.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ErrEndpoint // not shown: it may hold a password
	}
	if cfg.Every == 0 {
		cfg.Every = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	at := func(signal string) string { return u.JoinPath("v1", signal).String() }
	spans, err1 := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(at("traces")), otlptracehttp.WithHeaders(cfg.Headers), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	figures, err2 := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(at("metrics")), otlpmetrichttp.WithHeaders(cfg.Headers), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	lines, err3 := otlploghttp.New(ctx, otlploghttp.WithEndpointURL(at("logs")), otlploghttp.WithHeaders(cfg.Headers), otlploghttp.WithCompression(otlploghttp.GzipCompression))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	about := resource.NewSchemaless(attribute.String("service.name", "coinop-cloud"), attribute.String("service.version", cfg.Version),
		attribute.String("service.instance.id", cfg.Replica))
	soon := cfg.Every / 10
	read := []sdkmetric.PeriodicReaderOption{sdkmetric.WithInterval(cfg.Every)}
	if cfg.Gatherer != nil {
		read = append(read, sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(cfg.Gatherer))))
	}
	t := &Telemetry{
		cfg: cfg, client: &http.Client{Timeout: 10 * time.Second}, queue: make(chan body, queued),
		sales:   map[protocol.PaymentID]protocol.SaleID{},
		urls:    map[protocol.Leaf]string{protocol.UpTraces: at("traces"), protocol.UpMetrics: at("metrics"), protocol.UpLogs: at("logs")},
		traces:  sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans, sdktrace.WithBatchTimeout(soon))),
		metrics: sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(figures, read...))),
		logs:    sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(sdklog.NewBatchProcessor(lines, sdklog.WithExportInterval(soon)))),
	}
	t.tracer = t.traces.Tracer("coinop/cloud")
	ctx, t.end = context.WithCancel(context.WithoutCancel(ctx))
	for range posts {
		t.workers.Go(func() { t.post(ctx) })
	}
	return t, nil
}

// Close flushes what there is, for as long as ctx lives.
func (t *Telemetry) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.end()
	t.workers.Wait()
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx), t.logs.Shutdown(ctx))
}

// Handler is h and the log of OpenTelemetry beside it, which gets what h is enabled for. Card data is masked.
func (t *Telemetry) Handler(h slog.Handler) slog.Handler {
	if t == nil {
		return h
	}
	both := slog.NewMultiHandler(h, card.LogHandler(otelslog.NewHandler("coinop/cloud", otelslog.WithLoggerProvider(t.logs))))
	return asFirst{both, h}
}

// asFirst is a Handler that is enabled for what another is: OpenTelemetry's is for everything.
type asFirst struct{ all, first slog.Handler }

func (a asFirst) Enabled(ctx context.Context, l slog.Level) bool { return a.first.Enabled(ctx, l) }

func (a asFirst) Handle(ctx context.Context, r slog.Record) error { return a.all.Handle(ctx, r) }

func (a asFirst) WithAttrs(as []slog.Attr) slog.Handler {
	return asFirst{a.all.WithAttrs(as), a.first}
}

func (a asFirst) WithGroup(name string) slog.Handler { return asFirst{a.all.WithGroup(name), a.first} }

func nothing(error) {}

// parent is a context below a span of the device.
func parent(id protocol.TraceID, span protocol.SpanID) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(id), SpanID: trace.SpanID(span), TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}

// Asked begins the span of a request that came: from its arrival until all it led to is committed. The
// func ends it.
func (t *Telemetry) Asked(q protocol.AuthorizationRequest) func(error) {
	if t == nil {
		return nothing
	}
	var a protocol.Ask
	if protocol.Decode(q.Ask, &a) != nil {
		return nothing // payment says what is wrong with it
	}
	id, span, ok := protocol.ParseTraceparent(a.Traceparent)
	if !ok || id != protocol.TraceOf(a.Sale) { // of another trace, or of none: the sale's own is the one that is found again
		id, span = protocol.TraceOf(a.Sale), protocol.SpanOf(a.Payment)
	}
	t.remember(a.Payment, a.Sale)
	_, s := t.tracer.Start(parent(id, span), "relay", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("coinop.device", string(a.Device)), attribute.String("coinop.payment.id", a.Payment.String())))
	return func(err error) { finish(s, err) }
}

// Host begins the span of an operation at an acquirer's host.
func (t *Telemetry) Host(op acquirer.Op) func(acquirer.Answer, error) {
	if t == nil {
		return func(acquirer.Answer, error) {}
	}
	ctx, ok := t.of(op.Key.Payment)
	if !ok {
		return func(acquirer.Answer, error) {}
	}
	_, s := t.tracer.Start(ctx, "host "+op.Key.Kind.String(), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("coinop.link", op.Link), attribute.String("coinop.payment.id", op.Key.Payment.String()), attribute.Bool("coinop.repeat", op.Repeat),
		attribute.Int64("coinop.amount.minor", op.Amount.Minor)))
	return func(a acquirer.Answer, err error) {
		if err == nil {
			s.SetAttributes(attribute.String("coinop.outcome", a.Outcome.String()))
		}
		finish(s, err)
	}
}

// Answered begins the span of a host's answer being taken in and told to the device.
func (t *Telemetry) Answered(p protocol.PaymentID) func(error) {
	if t == nil {
		return nothing
	}
	ctx, ok := t.of(p)
	if !ok {
		return nothing
	}
	_, s := t.tracer.Start(ctx, "answer", trace.WithAttributes(attribute.String("coinop.payment.id", p.String())))
	return func(err error) { finish(s, err) }
}

func finish(s trace.Span, err error) {
	if err != nil {
		s.SetStatus(codes.Error, card.Scrub(err.Error()))
	}
	s.End()
}

// of is a context below the device's span of a payment.
func (t *Telemetry) of(p protocol.PaymentID) (context.Context, bool) {
	t.mu.Lock()
	sale, ok := t.sales[p]
	t.mu.Unlock()
	if !ok && t.cfg.Sale != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if sale, ok = t.cfg.Sale(ctx, p); ok {
			t.remember(p, sale)
		}
	}
	if !ok {
		return nil, false
	}
	return parent(protocol.TraceOf(sale), protocol.SpanOf(p)), true
}

func (t *Telemetry) remember(p protocol.PaymentID, s protocol.SaleID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.sales[p]; ok {
		return
	}
	t.sales[p] = s
	if t.recent = append(t.recent, p); len(t.recent) > salesKept {
		delete(t.sales, t.recent[0])
		t.recent = t.recent[1:]
	}
}
