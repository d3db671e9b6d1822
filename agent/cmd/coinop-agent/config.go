package main

import (
	"fmt"
	"io"

	"coinop/configs"
	"coinop/hardware/mdb"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
)

func newConfig(env []string) *cobra.Command {
	return configs.Program[configs.Agent]{
		Name: "coinop-agent", Noun: "agent", Env: env,
		Load: configs.LoadAgent, Explain: configs.ExplainAgent, Schema: configs.AgentSchema,
		Check: checkFile,
		Here: func(a configs.Agent) error {
			_, err := fileOptions{ports: serialPorts}.config(a, io.Discard)
			return err
		},
		HereText: `

With --here it also reads the identity and looks for the ports, as run does; so
it must run on the machine, as the user the agent runs as.`,
	}.Command()
}

// checkFile finds what package configs cannot know, without touching the machine.
func checkFile(a configs.Agent) error {
	scale, err := scales(a)
	if err != nil {
		return err
	}
	var problems configs.Errors
	for i := range a.Lanes {
		_, ps := planOf(a, i, scale[i].Currency)
		problems = append(problems, ps...)
		problems = append(problems, oneWay(a, i)...)
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
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
