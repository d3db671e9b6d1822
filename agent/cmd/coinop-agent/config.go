package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"coinop/configs"
	"coinop/hardware/mdb"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
)

func newConfig(env []string) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and explain the configuration file"}
	c.AddCommand(newCheck(env), newExplain(env), &cobra.Command{
		Use: "schema", Short: "Print the file's JSON Schema, for editors", Args: cobra.NoArgs,
		Long: `Schema prints the JSON Schema of the file. Saved as agent.schema.json beside it,
and with this as the file's first line, an editor completes and underlines:

  # yaml-language-server: $schema=agent.schema.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(configs.AgentSchema())
			return err
		},
	})
	return c
}

func newCheck(env []string) *cobra.Command {
	var asJSON, here bool
	c := &cobra.Command{
		Use: "check FILE", Short: "Say everything that is wrong with a file", Args: cobra.ExactArgs(1),
		Long: `Check reads the file as run would, with the environment above it, and says all
that is wrong with it: where, what, and what to write instead. It touches
nothing. It ends with 0 when run would take the file, and with 1 otherwise.

With --here it also reads the identity and looks for the ports, as run does; so
it must run on the machine, as the user the agent runs as.`,
		Example: "  coinop-agent config check /etc/coinop/agent.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := configs.LoadAgent(args[0], env)
			if err == nil {
				_, err = scales(a)
			}
			if err == nil && here {
				_, err = fileOptions{ports: serialPorts}.config(a, io.Discard)
			}
			return report(c.OutOrStdout(), args[0], asJSON, err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: file, ok, problems")
	c.Flags().BoolVar(&here, "here", false, "also check the identity and the ports of this machine")
	return c
}

// report prints what a check found, and returns an error when it found any.
func report(w io.Writer, file string, asJSON bool, err error) error {
	problems, ok := errors.AsType[configs.Errors](err)
	if err != nil && !ok {
		return err
	}
	switch {
	case asJSON:
		if problems == nil {
			problems = configs.Errors{}
		}
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"file": file, "ok": len(problems) == 0, "problems": problems}); err != nil {
			return err
		}
	case len(problems) > 0:
		_, _ = fmt.Fprintln(w, problems)
	default:
		_, _ = fmt.Fprintf(w, "%s is good\n", file)
	}
	switch n := len(problems); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: 1 problem", file)
	default:
		return fmt.Errorf("%s: %d problems", file, n)
	}
}

func newExplain(env []string) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "explain [KEY]", Short: "Say what a key means, what it is now and why", Args: cobra.MaximumNArgs(1),
		Long: `Explain says what a key means, its default, its range and its names in the
environment and on the command line. With --config it says what it is now, and
where that was written: default, file:line:column or environment. Without KEY
it explains all of them; the end of a key is enough.`,
		Example: "  coinop-agent config explain timeouts.wait --config /etc/coinop/agent.yaml",
		RunE: func(c *cobra.Command, args []string) error {
			var now *configs.Agent
			if file != "" {
				a, err := configs.LoadAgent(file, env)
				if err != nil {
					return err
				}
				now = &a
			}
			key := ""
			if len(args) > 0 {
				key = args[0]
			}
			return configs.ExplainAgent(c.OutOrStdout(), key, now)
		},
	}
	c.Flags().StringVar(&file, "config", "", "`file` whose values are told")
	return c
}

// scales are the MDB scales of the lanes. That the currency is one, and that a unit is a whole number
// of its coins, is seen here: configs knows no currencies.
func scales(a configs.Agent) ([]mdb.Scale, error) {
	currency, err := money.CurrencyOf(string(a.Currency))
	if err != nil {
		return nil, configs.Errors{a.Refuse("currency", string(a.Currency)+" is no currency of ISO 4217", "write a code like EUR")}
	}
	var out []mdb.Scale
	var problems configs.Errors
	for i, l := range a.Lanes {
		factor, decimals, err := l.Vending.Scale.Units(currency.Exponent())
		s := mdb.Scale{Currency: currency, Factor: uint8(factor), Decimals: uint8(decimals)} //nolint:gosec // Units keeps to 255
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			problems = append(problems, a.Refuse(fmt.Sprintf("lanes.%d.vending.scale", i), err.Error(),
				"write what the machine's manual says one MDB unit is worth"))
		}
		out = append(out, s)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}
