package main

import (
	"coinop/agent"

	"github.com/spf13/cobra"
)

func newTamper(env []string) *cobra.Command {
	c := &cobra.Command{Use: "tamper", Short: "Let a machine sell again that was opened"}
	c.AddCommand(newTamperClear(env))
	return c
}

func newTamperClear(env []string) *cobra.Command {
	var data string
	o := agent.Order{Do: agent.OrderTamperClear}
	c := &cobra.Command{
		Use: "clear --by NAME", Short: "Say that what was opened has been looked at", Args: cobra.NoArgs,
		Long: `Clear unlocks what a tamper loop or a reader has locked, after a person has looked at
it: is anything stuck on the reader, in its slot, behind it? Is the wire whole? Who did is
written into the journal. A loop that is still open is not cleared.`,
		Example: "  coinop-agent tamper clear --data /var/lib/coinop --by ana",
		RunE:    func(c *cobra.Command, _ []string) error { return tell(c, data, o, false) },
	}
	dataFolder(c, env, &data)
	c.Flags().StringVar(&o.Person, "by", "", "`name` of who has looked (required)")
	return c
}
