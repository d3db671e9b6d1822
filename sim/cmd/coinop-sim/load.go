package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"coinop/cloud"
	"coinop/sim/load"

	"github.com/spf13/cobra"
)

// loadOptions are load's flags.
type loadOptions struct {
	fleet    load.Options
	pace     load.Pace
	saturate bool
	storm    bool
	flood    int
	custody  bool
	hold     time.Duration
	dialers  int
	pids     []string
	json     string
}

// loadReport is what load prints.
type loadReport struct {
	At        time.Time             `json:"at"`
	Devices   int                   `json:"devices"`
	Phases    []loadPhase           `json:"phases"`
	Processes map[string]loadMemory `json:"processes,omitempty"`
}

type loadPhase struct {
	load.Phase
	CPU map[string]float64 `json:"cpu_us_each,omitempty"` // by process
}

type loadMemory struct {
	Before int64 `json:"rss_before_connect"`
	After  int64 `json:"rss_connected"`
	End    int64 `json:"rss_end"`
}

func loadCommand() *cobra.Command {
	var o loadOptions
	c := &cobra.Command{
		Use:   "load --dir DIR --devices N (--saturate | --rate R | --storm | --flood RECORDS)",
		Short: "Drive many lean devices against a live cloud",
		Long: `load adds N devices to the registry of a cloud and connects them to its broker, each with a certificate
of its own, then lets them do one thing and says how it went:

  --saturate       authorizations as fast as they are answered, --in-flight at any moment
  --rate R         R authorizations a second, whether or not they are answered
  --storm          nothing but connect, all at once, and stay for --hold
  --flood RECORDS  the end of an outage: all connect and upload RECORDS each, at once

--custody uploads the journal of every sale that was approved, and waits until the cloud holds it. Cards are
sealed before the clock starts: that is a reader's work. With --pid the CPU and the memory of processes of
this machine are measured too. The broker may be the cloud's own or an external one: only --addr differs.`,
		Example: `  coinop-sim load --dir cloud --addr 127.0.0.1:8883 --devices 256 --saturate --in-flight 256 --for 10s --pid cloud=4711
  coinop-sim load --dir cloud --devices 500 --rate 1000 --for 1m --json load.json
  coinop-sim load --dir cloud --addr 127.0.0.1:8884 --devices 2000 --storm --hold 10s --pid cloud=4711 --pid mosquitto=4712
  coinop-sim load --dir cloud --devices 1000 --flood 640`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			r, err := o.run(c.Context(), c.ErrOrStderr())
			if err == nil {
				err = r.print(c.OutOrStdout())
			}
			if err != nil || o.json == "" {
				return err
			}
			if err := r.write(o.json); err != nil {
				return fmt.Errorf("write %s: %w", o.json, err)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.fleet.Addr, "addr", "127.0.0.1:8883", "address of the broker")
	f.StringVar(&o.fleet.Server, "server", "", "name in the broker's certificate (the host of --addr)")
	f.StringVar(&o.fleet.Place.Dir, "dir", "", "folder of the cloud, for its keys and its registry (needed)")
	_ = c.MarkFlagRequired("dir")
	f.StringVar(&o.fleet.Place.Store, "store", "", "postgres://… where the cloud's ledger is a database")
	f.StringVar(&o.fleet.Link, "link", "bank", "name of the link to the bank")
	f.StringVar(&o.fleet.Name, "name", "load", "devices are NAME-1, NAME-2 …; those there are get new certificates")
	f.IntVar(&o.fleet.Devices, "devices", 256, "how many")
	f.BoolVar(&o.saturate, "saturate", false, "authorize as fast as answers come")
	f.IntVar(&o.pace.InFlight, "in-flight", 64, "authorizations at a time, with --saturate")
	f.Float64Var(&o.pace.Rate, "rate", 0, "authorizations a second")
	f.BoolVar(&o.storm, "storm", false, "only connect")
	f.IntVar(&o.flood, "flood", 0, "records each device has to tell after an outage")
	f.BoolVar(&o.custody, "custody", false, "upload the journals of what was sold, after --saturate or --rate")
	f.DurationVar(&o.pace.For, "for", 10*time.Second, "how long authorizations are asked for")
	f.DurationVar(&o.hold, "hold", 2*time.Second, "how long the devices stay connected before memory is looked at")
	f.IntVar(&o.dialers, "dialers", 128, "connections made at a time; 0: all at once")
	f.StringArrayVar(&o.pids, "pid", nil, "NAME=PID of a process of this machine to measure; may be repeated")
	f.StringVar(&o.json, "json", "", "file for the result as JSON")
	return c
}

func (o *loadOptions) check() error {
	modes := 0
	for _, on := range []bool{o.saturate, o.pace.Rate > 0, o.storm, o.flood > 0} {
		if on {
			modes++
		}
	}
	if modes != 1 {
		return errors.New("want one of --saturate, --rate, --storm and --flood")
	}
	if o.saturate && o.pace.InFlight < 1 || o.fleet.Devices < 1 {
		return errors.New("--in-flight, --devices: want 1 or more")
	}
	if !o.saturate {
		o.pace.InFlight = 0
	}
	if o.dialers <= 0 {
		o.dialers = o.fleet.Devices
	}
	if _, err := o.measured(); err != nil {
		return err
	}
	o.fleet.Keep = o.custody
	return nil
}

// measured are the processes of --pid, by name, and this one.
func (o *loadOptions) measured() (map[string]int, error) {
	out := map[string]int{"load": os.Getpid()}
	for _, text := range o.pids {
		name, number, ok := strings.Cut(text, "=")
		pid, err := strconv.Atoi(number)
		if !ok || name == "" || err != nil {
			return nil, fmt.Errorf("--pid %q: want NAME=PID, as in cloud=4711", text)
		}
		if _, err := load.CPU(pid); err != nil {
			return nil, fmt.Errorf("--pid %s: %w", text, err)
		}
		out[name] = pid
	}
	return out, nil
}

func (o *loadOptions) run(ctx context.Context, progress io.Writer) (loadReport, error) {
	r := loadReport{At: time.Now().UTC(), Devices: o.fleet.Devices, Processes: map[string]loadMemory{}}
	pids, err := o.measured()
	if err != nil {
		return r, err
	}
	o.fleet.Progress = func(line string) { fmt.Fprintln(progress, line) }
	cloud.PaceCollector() // a cloud beside us is what is measured
	fleet, err := load.Open(ctx, o.fleet)
	if err != nil {
		return r, err
	}
	defer fleet.Close()
	memory := func(note func(*loadMemory, int64)) error {
		for name, pid := range pids {
			n, err := load.RSS(pid)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			m := r.Processes[name]
			note(&m, n)
			r.Processes[name] = m
		}
		return nil
	}
	phase := func(do func() []load.Phase) error {
		was := map[string]time.Duration{}
		for name, pid := range pids {
			if was[name], err = load.CPU(pid); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		all := do()
		p := loadPhase{Phase: all[len(all)-1], CPU: map[string]float64{}}
		for name, pid := range pids {
			now, err := load.CPU(pid)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			p.CPU[name] = float64((now - was[name]).Microseconds()) / float64(max(p.Done, 1))
		}
		for _, before := range all[:len(all)-1] {
			r.Phases = append(r.Phases, loadPhase{Phase: before})
		}
		r.Phases = append(r.Phases, p)
		return context.Cause(ctx)
	}
	err = memory(func(m *loadMemory, n int64) { m.Before = n })
	if err == nil {
		err = phase(func() []load.Phase { return []load.Phase{fleet.Connect(ctx, o.dialers)} })
	}
	if err == nil && fleet.Connected() == 0 {
		err = fmt.Errorf("no device is connected: %s", strings.Join(r.Phases[0].Reasons(), "; "))
	}
	if err != nil {
		return r, err
	}
	select {
	case <-time.After(o.hold):
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	err = memory(func(m *loadMemory, n int64) { m.After = n })
	if err == nil && o.flood > 0 {
		err = phase(func() []load.Phase {
			c, u := fleet.Flood(ctx, o.flood, o.fleet.Devices)
			return []load.Phase{c, u}
		})
	}
	if err == nil && (o.saturate || o.pace.Rate > 0) {
		cards := int(o.pace.Rate * o.pace.For.Seconds())
		if o.saturate {
			cards = min(int(sealedAhead*o.pace.For.Seconds()), sealedMost)
		}
		err = fleet.Ready(ctx)
		if err == nil {
			err = fleet.Prepare(ctx, min(cards, sealedMost))
		}
		if err == nil {
			err = phase(func() []load.Phase { return []load.Phase{fleet.Drive(ctx, o.pace)} })
		}
		if err == nil && o.custody {
			err = phase(func() []load.Phase { return []load.Phase{fleet.Custody(ctx, o.fleet.Devices)} })
		}
	}
	if err != nil {
		return r, err
	}
	return r, memory(func(m *loadMemory, n int64) { m.End = n })
}

// Cards sealed before the clock starts: as many a second as may be asked for, but no more in all than
// fit well into memory. What lacks is sealed as it is needed.
const (
	sealedAhead = 8000
	sealedMost  = 400_000
)

func (r loadReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "phase\tdone\tin\trate\tp50\tp90\tp99\terrors\trepeats\tCPU each")
	for _, p := range r.Phases {
		var cpu []string
		for _, name := range slices.Sorted(maps.Keys(p.CPU)) {
			cpu = append(cpu, fmt.Sprintf("%s %.0f µs", name, p.CPU[name]))
		}
		fmt.Fprintf(t, "%s\t%d\t%.1f s\t%.0f/s\t%.1f ms\t%.1f ms\t%.1f ms\t%d\t%d\t%s\n", p.Name, p.Done, p.Seconds, p.PerSecond,
			p.P50MS, p.P90MS, p.P99MS, p.Failed(), p.Repeats, strings.Join(cpu, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range r.Phases {
		for _, why := range p.Reasons() {
			fmt.Fprintf(w, "%s: %d times %s\n", p.Name, p.Errors[why], why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Processes)) {
		m := r.Processes[name]
		each := float64(m.After-m.Before) / 1024 / float64(r.Devices)
		fmt.Fprintf(w, "%s: RSS %.0f MB, with %d devices connected %.0f MB (%.1f KB each), at the end %.0f MB\n",
			name, mb(m.Before), r.Devices, mb(m.After), each, mb(m.End))
	}
	return nil
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

func (r loadReport) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
