package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coinop/protocol/money"
	"coinop/sim/demo"
)

func hostCommand() *cobra.Command {
	var (
		o     demo.HostOptions
		ready string
	)
	c := &cobra.Command{
		Use:   "host --listen ADDR --books FILE",
		Short: "A bank on a socket (ISO 8583) that keeps books",
		Long: `host answers authorizations, captures and reversals, and writes what stands on the buyers'
accounts to --books, one JSON object a line, before an answer leaves.

With --behave magic, the default, the last four digits of an amount choose the answer: 90.51 is
declined with code 51, 90.05 with 05, 90.10 is approved for half, 95.00 is never answered. Anything
else is done to every message: approve, decline:51, partial:450, silent, late:20s, twice, wrong-stan,
wrong-amount, drop-before, drop-after, soft; several joined by commas.`,
		Example: `  coinop-sim host --listen 127.0.0.1:5000 --books /tmp/books.jsonl
  coinop-sim host --listen 127.0.0.1:5000 --books /tmp/books.jsonl --behave decline:51`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var notReady error
			o.Ready = func(addr string) {
				_, _ = fmt.Fprintln(c.OutOrStdout(), "host listens on", addr)
				if ready != "" {
					notReady = writeReady(ready, addr)
				}
				if notReady != nil {
					_, _ = fmt.Fprintln(c.ErrOrStderr(), notReady)
				}
			}
			return demo.RunHost(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:5000", "address; port 0 is any free one")
	f.StringVar(&o.Books, "books", "", "file of the books; what stands in it stands again (needed)")
	_ = c.MarkFlagRequired("books")
	f.StringVar(&o.Behave, "behave", "magic", "how it answers")
	f.DurationVar(&o.Latency, "latency", 0, "time before every answer")
	f.StringVar(&ready, "ready-file", "", "file that gets the address when it listens")
	return c
}

func machineCommand() *cobra.Command {
	var (
		o        demo.MachineOptions
		currency string
	)
	c := &cobra.Command{
		Use:   "machine --dir DIR --seed N",
		Short: "A machine with card reader and printer on ptys, and its buyers",
		Long: `machine makes DIR/vmc, the tty of a vending controller behind a Qibixx MDB adapter, and
DIR/reader, the tty of a ViVOpay card reader, and DIR/printer, that of an ESC/POS receipt printer; an
agent opens them. Buyers come, choose, present a test
card, and take what falls. What fell is in DIR/drops.jsonl, synced before the controller says so.

A kiosk or a laundry has a Modbus relay board at DIR/vmc. Buyers of a laundry press buttons; those of a kiosk
order at a screen, over HTTP, where DIR/data/screen.addr says the agent listens (--data DIR/data, screen: in its
file). They pay at a ZVT terminal, whose address stands in DIR/terminal, or in cash at DIR/cash (cash: {owner: agent}).

A snack machine has its MDB bus at DIR/vmc (driver: mdb-raw) and its books at DIR/dex (audit:).

What happens is printed, one JSON object a line. Commands are read, one a line:

  pause          nobody comes any more; "paused" is printed when the last one has left
  resume         buyers come again
  choose OUTLET  what the next buyer wants; 8 costs what the bank declines
  fail next      the motor turns and nothing falls, and the controller says so
  fault NAME     any other fault: silent_drop, reset_jam, unplug_drop ...
  till FAULT     of a snack machine, with its next cash sale: steal, skip (not told), twice (told so)
  door open      of a kiosk or a laundry, at input 8 of its board; or shut
  quit           end`,
		Example: `  coinop-sim machine --dir /tmp/machine-1 --seed 1
  coinop-agent run --identity id --data data --cloud HOST:PORT --vmc /tmp/machine-1/vmc --reader /tmp/machine-1/reader --printer /tmp/machine-1/printer`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if o.Currency, err = money.CurrencyOf(currency); err != nil {
				return fmt.Errorf("--currency: %w", err)
			}
			o.Commands, o.Events = c.InOrStdin(), c.OutOrStdout()
			return demo.RunMachine(c.Context(), o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder of the machine (needed)")
	_ = c.MarkFlagRequired("dir")
	f.StringVar(&o.Kind, "kind", "vending", "what it is: vending (behind a Qibixx adapter), snack (at a raw MDB port, with cash of its own), kiosk or laundry (a Modbus relay board)")
	f.Uint64Var(&o.Seed, "seed", 1, "the same seed gives the same buyers")
	f.StringVar(&currency, "currency", "EUR", "of the prices")
	f.DurationVar(&o.Think, "think", 0, "a buyer comes at most so long after the one before (900ms)")
	f.DurationVar(&o.VendTime, "vend-time", 0, "how long a motor turns (250ms)")
	f.StringVar(&o.Pictures, "receipts", "", "folder for a picture of each of the last 20 receipts; none: none are made")
	f.BoolVar(&o.Paused, "paused", false, "no buyer before the command resume")
	f.BoolVar(&o.QuitAtEOF, "quit-at-eof", false, "end when the commands end")
	return c
}
