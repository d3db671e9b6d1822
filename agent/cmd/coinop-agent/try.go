package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/protocol"

	"github.com/spf13/cobra"
)

// tried is how one trial ended.
type tried struct {
	What  string   `json:"what"`
	OK    bool     `json:"ok"`
	Said  []string `json:"said"`
	Error string   `json:"error,omitempty"`
}

func newTest(env []string) *cobra.Command {
	var file string
	var lane uint8
	var wait time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use: "test " + strings.Join(agent.Trials, "|") + "|tap|all", Short: "Try a device, without a sale", Args: cobra.ExactArgs(1),
		Long: `Test tries one device of a lane, or all that its configuration names. Nothing is
charged, no record is written, money that is put in comes back, and a machine
that is asked for an item is told no. The agent must be stopped: it has the
ports. It ends with 0 when the device works, 1 when it does not.

  printer  prints a page
  reader   waits for a card (tap is the same) and says what it is; at each
           reader of the lane, one after the other
  scanner  waits for a code, and says its kind and length
  vend     waits for a button of the machine
  coin     takes a coin and gives it back; bill: a bill
  door     waits for the service door`,
		Example: `  coinop-agent test printer --config /etc/coinop/agent.yaml
  coinop-agent test tap --config /etc/coinop/agent.yaml --wait 1m`,
		ValidArgs: append(slices.Clone(agent.Trials), "tap", "all"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "config"); err != nil {
				return err
			}
			if !slices.Contains(c.ValidArgs, args[0]) {
				return usage("there is no test of %q; there are %s", args[0], strings.Join(c.ValidArgs, ", "))
			}
			if file == "" {
				return usage("--config is missing: the file that run was given")
			}
			a, err := configs.LoadAgent(file, env)
			if err != nil {
				return err
			}
			cfg, err := fileOptions{ports: serialPorts}.config(a, io.Discard)
			if err != nil {
				return err
			}
			whats := []string{map[string]string{"tap": "reader"}[args[0]]}
			switch {
			case args[0] == "all":
				whats = agent.Trials
			case whats[0] == "":
				whats = args
			}
			var all []tried
			bad := false
			for _, what := range whats {
				r := tried{What: what, Said: []string{}}
				t := agent.Trial{Config: cfg, Lane: protocol.Lane(lane), Wait: wait, Say: func(text string) {
					r.Said = append(r.Said, text)
					if !asJSON {
						_, _ = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", what, text)
					}
				}}
				err := t.Do(c.Context(), what)
				if args[0] == "all" && errors.Is(err, agent.ErrNoTrial) {
					continue
				}
				if errors.Is(err, agent.ErrInUse) {
					return err
				}
				if r.OK = err == nil; !r.OK {
					bad, r.Error = true, err.Error()
				}
				if !asJSON {
					_, _ = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", what, map[bool]string{true: "ok", false: "FAIL: " + r.Error}[r.OK])
				}
				all = append(all, r)
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(all); err != nil {
					return err
				}
			}
			if bad {
				return exit{code: exitProblem}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration `file` (required)")
	f.Uint8Var(&lane, "lane", 0, "`number` of the lane")
	f.DurationVar(&wait, "wait", 30*time.Second, "how long a person may take")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
