package demo

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coinop/hardware/virtual"
)

// collector is a real OTLP receiver: OpenTelemetry's, which is a program of a module of its own.
type collector struct {
	addr string
	mu   sync.Mutex
	text map[string][]byte // by signal, all that came
	span []span
}

type span struct {
	Service, Instance                   string
	Name, TraceID, SpanID, ParentSpanID string
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "otelcol")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = "../otelcol"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the receiver: %v\n%s", err, out)
	}
	cmd := exec.Command(bin, dir) //nolint:gosec // ours
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{addr: strings.TrimSpace(first), text: map[string][]byte{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			c.take(line)
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-done
		_ = cmd.Wait()
	})
	return c
}

func (c *collector) take(line []byte) {
	type attribute struct {
		Key   string
		Value struct{ StringValue string }
	}
	var m struct {
		Signal string
		Data   struct {
			ResourceSpans []struct {
				Resource   struct{ Attributes []attribute }
				ScopeSpans []struct{ Spans []span }
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if json.Unmarshal(line, &m) != nil {
		return
	}
	c.text[m.Signal] = append(c.text[m.Signal], line...)
	for _, r := range m.Data.ResourceSpans {
		about := map[string]string{}
		for _, a := range r.Resource.Attributes {
			about[a.Key] = a.Value.StringValue
		}
		for _, sc := range r.ScopeSpans {
			for _, s := range sc.Spans {
				s.Service, s.Instance = about["service.name"], about["service.instance.id"]
				c.span = append(c.span, s)
			}
		}
	}
}

// whole finds a trace that is complete: the agent's sale with its question and its vend, and below the
// question what the cloud did: relay, host and answer, and the capture.
func (c *collector) whole() (trace string, spans map[string]span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	traces := map[string]map[string]span{}
	for _, s := range c.span {
		if traces[s.TraceID] == nil {
			traces[s.TraceID] = map[string]span{}
		}
		traces[s.TraceID][s.Name] = s
	}
	for id, have := range traces {
		ok := true
		for _, name := range []string{"sale", "authorize", "vend", "relay", "host authorization", "answer", "host capture"} {
			_, is := have[name]
			ok = ok && is
		}
		if ok {
			return id, have
		}
	}
	return "", nil
}

// TestTelemetry: one trace goes from the machine to the bank and back, by way of MQTT and of a real
// receiver; metrics and logs of both sides arrive, and no card number in any of it.
func TestTelemetry(t *testing.T) {
	bin := programs(t)
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { telemetry(t, bin, e) })
	}
}

func telemetry(t *testing.T, bin string, e engine) {
	c := startCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+c.addr)
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
	t.Setenv("COINOP_TELEMETRY", "1s")
	v, err := Run(t.Context(), Options{Bin: bin, Dir: filepath.Join(t.TempDir(), "run"), For: 4 * time.Second, Seed: 5, MinSales: 3, Broker: e.broker, Store: e.store})
	if err != nil {
		t.Fatal(err)
	}
	var trace string
	var spans map[string]span
	for end := time.Now().Add(10 * time.Second); trace == "" && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		trace, spans = c.whole()
	}
	if trace == "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.Fatalf("no whole trace of %d sales among %d spans: %+v", v.Sales, len(c.span), c.span)
	}
	ask := spans["authorize"]
	for name, parent := range map[string]string{
		"sale": "", "authorize": spans["sale"].SpanID, "vend": spans["sale"].SpanID, "relay": ask.SpanID, "host authorization": ask.SpanID,
		"answer": ask.SpanID, "host capture": ask.SpanID,
	} {
		if s := spans[name]; s.ParentSpanID != parent {
			t.Errorf("%s hangs below %q, want %q", name, s.ParentSpanID, parent)
		}
	}
	if ask.Service != "coinop-agent" || !strings.HasPrefix(ask.Instance, "machine-") || spans["relay"].Service != "coinop-cloud" {
		t.Errorf("%+v, %+v", ask, spans["relay"])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for signal, want := range map[string][]string{
		"metrics": {"coinop.sales", "coinop.authorization.duration", "coinop.journal.records", "machine-1", "machine-2", "machine-3", "coinop_relay_handled_total"},
		"logs":    {"sale ended", "connected to the cloud", "coinop-cloud"},
	} {
		for _, w := range want {
			if !strings.Contains(string(c.text[signal]), w) {
				t.Errorf("no %q in the %s", w, signal)
			}
		}
	}
	for signal, text := range c.text {
		for _, card := range []virtual.Tap{virtual.VisaTest(), virtual.MastercardTest(), virtual.MaestroTest()} {
			if strings.Contains(string(text), card.Track2.PAN().Reveal()) {
				t.Errorf("a card number is in the %s", signal)
			}
		}
	}
}
