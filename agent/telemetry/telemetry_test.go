package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"coinop/protocol"
	"coinop/protocol/money"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bodies ends t and gives all it has to say, by leaf.
func bodies(t *testing.T, tel *Telemetry) map[protocol.Leaf][][]byte {
	t.Helper()
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	out := map[protocol.Leaf][][]byte{}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		b, err := tel.Next(ctx)
		cancel()
		if err != nil {
			return out
		}
		z, err := gzip.NewReader(bytes.NewReader(b.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		out[b.Leaf] = append(out[b.Leaf], plain)
	}
}

func at(ms int64, sale protocol.SaleID, body protocol.Body) protocol.Opened {
	return protocol.Opened{Record: protocol.Record{
		Lane: 1, Sale: sale, Body: body,
		At: protocol.Reading{Wall: protocol.UnixMS(1_795_000_000_000 + ms), Boot: protocol.BootID{1}, Mono: time.Duration(ms) * time.Millisecond},
	}}
}

func newID(n byte) (b [16]byte) { b[0], b[8], b[15] = n, 0x80, n; return b }

// TestSale: the trace of a sale has its ids, its times, and one span for each question and each item.
func TestSale(t *testing.T) {
	t.Parallel()
	tel, err := New(Config{Device: "snack-1", Software: "1.2", Every: time.Hour, Gauges: []Gauge{{Name: "coinop.x", Unit: "1", Read: func() int64 { return 7 }}}})
	if err != nil {
		t.Fatal(err)
	}
	sale, pay, again, vend, second := protocol.SaleID(newID(1)), protocol.PaymentID(newID(2)), protocol.PaymentID(newID(3)), protocol.VendID(newID(4)), protocol.VendID(newID(5))
	tel.Sale([]protocol.Opened{
		at(0, sale, protocol.SaleOpened{}),
		at(1000, sale, protocol.AuthorizationSent{Payment: pay, Amount: money.New(150, money.EUR), Card: protocol.Card{Brand: "visa", Last4: "0119"}}),
		at(1400, sale, protocol.AuthorizationAnswered{Payment: pay, Result: protocol.Declined}),
		at(5000, sale, protocol.AuthorizationSent{Payment: again}),
		at(5200, sale, protocol.AuthorizationAnswered{Payment: again, Result: protocol.Approved}),
		at(5201, sale, protocol.VendStarted{Vend: vend, Outlet: 5}),
		at(6000, sale, protocol.VendResult{Vend: vend, Result: protocol.Failed}),
		at(6001, sale, protocol.VendStarted{Vend: second, Outlet: 6}),
		at(7000, sale, protocol.PaymentOutcome{Payment: again, What: protocol.Capture, Amount: money.New(150, money.EUR)}),
		at(7000, sale, protocol.CaseOpened{Cause: 1}),
		at(7000, sale, protocol.SaleClosed{How: 1}),
	})
	tel.Sale(nil)
	all := bodies(t, tel)
	var q coltrace.ExportTraceServiceRequest
	if len(all[protocol.UpTraces]) != 1 || proto.Unmarshal(all[protocol.UpTraces][0], &q) != nil {
		t.Fatalf("%d bodies of traces", len(all[protocol.UpTraces]))
	}
	spans := map[string]*tracepb.Span{}
	names := map[string]int{}
	for _, s := range q.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans() {
		spans[string(s.GetSpanId())] = s
		names[s.GetName()]++
		if string(s.GetTraceId()) != string(sale[:]) {
			t.Errorf("%s is of trace %x", s.GetName(), s.GetTraceId())
		}
	}
	if len(spans) != 5 || names["sale"] != 1 || names["authorize"] != 2 || names["vend"] != 2 {
		t.Fatalf("%v", names)
	}
	root := spans[string(sale[8:])]
	asked := spans[string(pay[8:])]
	if asked == nil || string(asked.GetParentSpanId()) != string(root.GetSpanId()) || len(root.GetParentSpanId()) != 0 {
		t.Fatal("authorize does not hang below sale")
	}
	if d := asked.GetEndTimeUnixNano() - asked.GetStartTimeUnixNano(); d != 400e6 || root.GetEndTimeUnixNano()-root.GetStartTimeUnixNano() != 7000e6 {
		t.Errorf("authorize took %d ns", d)
	}
	if s := spans[string(vend[8:])]; s.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Error("a failed vend is no error")
	}
	if s := spans[string(second[8:])]; !strings.Contains(s.String(), "unknown") {
		t.Errorf("a vend without an end: %v", s)
	}
	if text := q.String(); strings.Contains(text, "0119") || !strings.Contains(text, "snack-1") {
		t.Error("the last four digits are in it, or the device is not")
	}
	var m colmetrics.ExportMetricsServiceRequest
	if len(all[protocol.UpMetrics]) != 1 || proto.Unmarshal(all[protocol.UpMetrics][0], &m) != nil {
		t.Fatalf("%d bodies of metrics", len(all[protocol.UpMetrics]))
	}
	for _, want := range []string{"coinop.sales", "coinop.authorization.duration", "coinop.vend.duration", "coinop.x", "coinop.telemetry.dropped"} {
		if !strings.Contains(m.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestLog: what is logged goes both ways, in the levels of the first, and a card number in neither.
func TestLog(t *testing.T) {
	t.Parallel()
	tel, err := New(Config{Device: "snack-1", Every: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	log := slog.New(tel.Handler(slog.NewTextHandler(&text, nil))).With("device", "snack-1").WithGroup("g")
	log.Debug("unseen")
	log.Warn("a card was read", "number", "4761739001010119")
	all := bodies(t, tel)
	var q collogs.ExportLogsServiceRequest
	if len(all[protocol.UpLogs]) != 1 || proto.Unmarshal(all[protocol.UpLogs][0], &q) != nil {
		t.Fatalf("%d bodies of logs", len(all[protocol.UpLogs]))
	}
	told := q.String()
	if !strings.Contains(told, "a card was read") || strings.Contains(told, "unseen") || strings.Contains(told, "476173900101") || !strings.Contains(text.String(), "a card was read") {
		t.Errorf("%s\n%s", told, text.String())
	}
}

// TestRing: the oldest goes, what is too large is never in it, and what is put back comes first.
func TestRing(t *testing.T) {
	t.Parallel()
	r := ring{wake: make(chan struct{}, 1)}
	for n := range ringBodies + 3 {
		r.put(Body{protocol.UpLogs, []byte{byte(n)}})
	}
	r.put(Body{protocol.UpLogs, make([]byte, MaxBody+1)})
	if len(r.bodies) != ringBodies || r.Dropped() != 4 || r.bodies[0].Bytes[0] != 3 {
		t.Errorf("%d bodies, %d dropped, the first %d", len(r.bodies), r.Dropped(), r.bodies[0].Bytes[0])
	}
	b, err := r.next(t.Context())
	if err != nil || b.Bytes[0] != 3 {
		t.Fatal(b, err)
	}
	r.back(b)
	if b, _ = r.next(t.Context()); b.Bytes[0] != 3 {
		t.Errorf("%d comes first", b.Bytes[0])
	}
	for range ringBodies + 3 {
		r.put(Body{protocol.UpTraces, make([]byte, MaxBody)})
	}
	if r.bytes > ringBytes || len(r.bodies) != ringBytes/MaxBody {
		t.Errorf("%d bodies of %d bytes", len(r.bodies), r.bytes)
	}
	r.back(b)
	if r.bytes > ringBytes {
		t.Errorf("%d bytes", r.bytes)
	}
}

// TestGauges: gauges of one name are told apart by their sensor, and one that has nothing to say says nothing.
func TestGauges(t *testing.T) {
	t.Parallel()
	gauge := func(sensor string, has bool, v int64) Gauge {
		return Gauge{Name: "coinop.temperature", Unit: "mCel", Sensor: sensor, Has: func() bool { return has }, Read: func() int64 { return v }}
	}
	tel, err := New(Config{Device: "snack-1", Every: time.Hour, Gauges: []Gauge{gauge("cabinet", true, 5100), gauge("box", true, 31000), gauge("lost", false, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, b := range bodies(t, tel)[protocol.UpMetrics] {
		var r colmetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		for _, m := range r.ResourceMetrics[0].ScopeMetrics[0].Metrics {
			if m.Name != "coinop.temperature" {
				continue
			}
			for _, p := range m.GetGauge().DataPoints {
				got[p.Attributes[0].Value.GetStringValue()] = p.GetAsInt()
			}
		}
	}
	if len(got) != 2 || got["cabinet"] != 5100 || got["box"] != 31000 {
		t.Errorf("%v", got)
	}
}
