package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"coinop/sim"

	"github.com/spf13/cobra"
)

// runCommand plays seeds of the simulator.
func runCommand() *cobra.Command {
	var seed uint64
	var count, machines int
	var long, budget time.Duration
	var asJSON, story bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Play seeded runs of a whole fleet in one process, with faults, and judge them",
		Long: `Play seeded runs of a whole fleet in one process and judge them.

Time is virtual: 20 machines sell for 3 days, which takes a few seconds. The seed decides who buys what and
what goes wrong. A run that breaks a law is played again with fewer and fewer faults; the shortest list that
still breaks it is printed with what happened, and the command fails.`,
		Example: "  coinop-sim run --seed 7\n  coinop-sim run --seed 1000 --count 200",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 || machines < 1 || long <= 0 {
				return errors.New("--count, --machines and --for must be more than 0")
			}
			broken := 0
			var mu sync.Mutex
			var wg sync.WaitGroup
			work := make(chan uint64)
			out := c.OutOrStdout()
			for range min(runtime.GOMAXPROCS(0), count) {
				wg.Go(func() {
					for s := range work {
						opt := sim.Options{Seed: s, Machines: machines, For: long, Keep: story}
						r := sim.Run(opt)
						mu.Lock()
						first := r.Broken != nil && broken == 0
						if r.Broken != nil {
							broken++
						}
						if asJSON {
							_ = json.NewEncoder(out).Encode(map[string]any{"seed": s, "trace": r.Trace, "broken": r.Broken, "counts": r.Counts, "seconds": r.Took.Seconds()})
						} else {
							how := "all laws held"
							if r.Broken != nil {
								how = r.Broken.Error()
							}
							fmt.Fprintf(out, "seed %d: %s\n  %s; %.1f s, trace %s\n", s, how, r.Counts, r.Took.Seconds(), r.Trace[:16])
						}
						mu.Unlock()
						if first {
							r = sim.Shrink(r, opt, budget)
							mu.Lock()
							fmt.Fprintf(out, "\ncommit %s\n%s\n", commit(), r.Report())
							mu.Unlock()
						} else if story {
							mu.Lock()
							fmt.Fprintln(out, r.Story())
							mu.Unlock()
						}
					}
				})
			}
			for i := range count {
				if c.Context().Err() != nil {
					break
				}
				work <- seed + uint64(i)
			}
			close(work)
			wg.Wait()
			if broken > 0 {
				return fmt.Errorf("%d of %d seeds broke a law", broken, count)
			}
			return nil
		},
	}
	f := c.Flags()
	f.Uint64Var(&seed, "seed", 1, "the first seed")
	f.IntVar(&count, "count", 1, "how many seeds, one after the other from there")
	f.IntVar(&machines, "machines", 20, "machines of the fleet")
	f.DurationVar(&long, "for", 72*time.Hour, "virtual time that buyers come")
	f.DurationVar(&budget, "shrink", time.Minute, "real time to look for the shortest list of faults")
	f.BoolVar(&asJSON, "json", false, "one JSON object a seed")
	f.BoolVar(&story, "story", false, "print all that happened, also when all laws held")
	return c
}

// commit is the revision this binary was built from.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = " with changes"
			}
		}
	}
	return rev + dirty
}
