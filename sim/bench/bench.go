// Package bench measures the product where its speed is decided, on the machine at hand, and puts
// each figure beside the limit it is measured against.
//
//	report, err := bench.Run(ctx, bench.Options{Bin: "bin", Self: []string{os.Args[0], "far"}})
//	report.Print(os.Stdout)
//	err = report.Write("out/bench.json")
//
// What it measures is the product itself: the session's step, the agent's journal on this disk, the ledger
// on both engines, authorizations through the whole chain (MQTT with certificates, seals, relay, payment,
// ledger file, ISO 8583 to a bank on a socket), connections, and an agent on a long journal. A limit is
// measured in the same run where that is possible; else it is a figure measured on two weak cores, or
// what is wanted, and its name says which.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Options of a run. The zero value is the default named.
type Options struct {
	Bin string        // folder of coinop-agent and coinop-cloud
	Dir string        // folder on the disk to measure; a temporary one
	For time.Duration // of each stage: 3 s; the whole takes a minute or two longer than fifteen of them
	// Self is this program and the words that make its main call Far: the parts that are measured by their
	// process run as such.
	Self    []string
	Devices int // that are connected at once: 15,000
	Records int // in the agent's journal: 100,000
	// Only are names of Stages: the others are left out, and with them the limits that they measure. None: all.
	Only []string
	// Profiles is a folder that keeps the CPU profiles of the cloud and of the bare chain; "": none does.
	Profiles string
	// Progress is told what is measured now; nil: nobody.
	Progress func(string)
}

// Figure is one measurement beside its limit.
type Figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Limit   float64 `json:"limit"` // in Unit
	Against string  `json:"against"`
	Ratio   float64 `json:"ratio"` // how near to the limit: 1 is there, above it is better
}

// Report is a run.
type Report struct {
	At      time.Time `json:"at"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Seconds float64   `json:"seconds"`
	Figures []Figure  `json:"figures"`
	// Top are the functions the cloud spends its CPU in, by how it was loaded.
	Top map[string][]top `json:"top"`
}

// Stages are what Run measures, in this order.
func Stages() []string {
	return []string{"session", "journal", "ledger", "authorizations", "connections", "agent", "drivers"}
}

// Run measures everything, one after the other.
func Run(ctx context.Context, o Options) (Report, error) {
	for _, name := range o.Only {
		if !slices.Contains(Stages(), name) {
			return Report{}, fmt.Errorf("no stage is named %q; there are %s", name, strings.Join(Stages(), ", "))
		}
	}
	if o.For <= 0 {
		o.For = 3 * time.Second
	}
	if o.Devices <= 0 {
		o.Devices = 15_000
	}
	if o.Records <= 0 {
		o.Records = 100_000
	}
	began := time.Now()
	r := Report{At: began.UTC(), CPUs: runtime.NumCPU(), Go: runtime.Version()}
	dir, err := os.MkdirTemp(o.Dir, "coinop-bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	o.Dir = dir
	var raw, bare time.Duration
	measure := map[string]func(dir string) error{
		"session":        func(string) error { return r.session(ctx, o) },
		"journal":        func(dir string) (err error) { raw, err = r.journal(ctx, o, dir); return err },
		"ledger":         func(dir string) (err error) { bare, err = r.ledger(ctx, o, dir); return err },
		"authorizations": func(dir string) error { return r.authorizations(ctx, o, dir, raw, bare) },
		"connections":    func(dir string) error { return r.crowd(ctx, o, dir) },
		"agent":          func(dir string) error { return r.agent(ctx, o, dir) },
		"drivers":        func(dir string) error { return r.drivers(ctx, o, dir) },
	}
	for _, stage := range Stages() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, stage) {
			continue
		}
		if o.Progress != nil {
			o.Progress(stage)
		}
		home := filepath.Join(dir, stage)
		err := os.MkdirAll(home, 0o700)
		if err == nil {
			err = measure[stage](home)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", stage, err)
		}
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// more adds a figure of which more is better, less one of which less is.
func (r *Report) more(name string, v float64, unit string, limit float64, against string) {
	ratio := 0.0
	if limit > 0 { // else it was not measured
		ratio = v / limit
	}
	r.Figures = append(r.Figures, Figure{name, v, unit, limit, against, ratio})
}

func (r *Report) less(name string, v float64, unit string, limit float64, against string) {
	ratio := 1.0
	if v > 0 {
		ratio = limit / v
	}
	r.Figures = append(r.Figures, Figure{name, v, unit, limit, against, ratio})
}

// Print writes a table.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "what\tmeasured\tlimit\tratio\tagainst\n")
	for _, f := range r.Figures {
		limit, ratio := digits(f.Limit), fmt.Sprintf("%.0f %%", 100*f.Ratio)
		if f.Limit == 0 {
			limit, ratio = "-", "-"
		}
		fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%s\n", f.Name, digits(f.Value), f.Unit, limit, ratio, f.Against)
	}
	fmt.Fprintf(t, "%d CPUs, %s, %.1f s\n", r.CPUs, r.Go, r.Seconds)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, how := range slices.Sorted(maps.Keys(r.Top)) {
		fmt.Fprintf(w, "\nwhere the cloud's CPU goes, %s:\n", how)
		for _, f := range r.Top[how] {
			fmt.Fprintf(w, "  %4.1f %%  %s\n", 100*f.Flat, f.Function)
		}
	}
	return nil
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Write stores the report as JSON, in a folder that is made when missing.
func (r Report) Write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// percentile of sorted or unsorted spans; it sorts them.
func percentile(spans []time.Duration, p float64) time.Duration {
	if len(spans) == 0 {
		return 0
	}
	slices.Sort(spans)
	return spans[min(int(p*float64(len(spans))), len(spans)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
