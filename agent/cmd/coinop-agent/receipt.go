package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"coinop/agent"
	"coinop/hardware/paper"

	"github.com/spf13/cobra"
)

func newReceipt(env []string) *cobra.Command {
	var data, picture, charset string
	var columns int
	var asJSON bool
	c := &cobra.Command{
		Use: "receipt [REFERENCE]", Short: "Show the receipts of the last sales, or one of them", Args: cobra.MaximumNArgs(2),
		Long: `Receipt lists the receipts that are kept in the data folder, the newest first.
With a reference (as it stands on paper; its end is enough, last is the newest)
it shows that one, and with --png it makes the picture a printer would print.
The agent may run meanwhile.`,
		Example: `  coinop-agent receipt --data /var/lib/coinop
  coinop-agent receipt last --data /var/lib/coinop
  coinop-agent receipt DEAD BEEF --data /var/lib/coinop --png receipt.png`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "data"); err != nil {
				return err
			}
			if data == "" {
				return usage("--data is missing: the folder that run was given")
			}
			if columns < 16 || columns > 80 {
				return usage("--columns %d: want 16 to 80; 32 is paper of 58 mm, 48 of 80 mm", columns)
			}
			set, known := paper.Charsets[charset]
			if !known {
				return usage("--charset %s: want cp858, gb18030 or utf8", charset)
			}
			all, err := agent.Receipts(data)
			if err != nil {
				if len(all) == 0 {
					return err
				}
				_, _ = fmt.Fprintln(c.ErrOrStderr(), err)
			}
			slices.Reverse(all)
			if len(args) == 0 {
				if picture != "" {
					return usage("--png: of which receipt? Give its reference, or last")
				}
				return listReceipts(c, all, asJSON)
			}
			r, err := findReceipt(all, strings.Join(args, ""))
			if err != nil {
				return err
			}
			page := r.Layout(paper.Form{Columns: columns, Charset: set})
			switch {
			case picture != "":
				return draw(picture, page)
			case asJSON:
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), page.Text())
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "`folder` of the journal (required)")
	f.StringVar(&picture, "png", "", "`file` for a picture of it")
	f.IntVar(&columns, "columns", paper.Width80, "characters on a line: 32 on paper of 58 mm, 48 of 80 mm")
	f.StringVar(&charset, "charset", "cp858", "characters of the printer: cp858, gb18030 or utf8")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func listReceipts(c *cobra.Command, all []paper.Receipt, asJSON bool) error {
	if asJSON {
		if all == nil {
			all = []paper.Receipt{}
		}
		return json.NewEncoder(c.OutOrStdout()).Encode(all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "no receipts yet")
		return err
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TIME\tREFERENCE\tCHARGED\tCARD\tITEMS")
	for _, r := range all {
		var names []string
		for _, i := range r.Items {
			name := i.Name
			if i.State != paper.ItemDelivered {
				name += " (" + string(i.State) + ")"
			}
			names = append(names, name)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.At.Format("2006-01-02 15:04:05"), r.Reference(), r.Charged, r.Last4, strings.Join(names, ", "))
	}
	return w.Flush()
}

// findReceipt is the newest whose reference ends so.
func findReceipt(newestFirst []paper.Receipt, reference string) (paper.Receipt, error) {
	want := strings.ToUpper(strings.ReplaceAll(reference, " ", ""))
	for _, r := range newestFirst {
		if want == "LAST" || strings.HasSuffix(strings.ReplaceAll(r.Reference(), " ", ""), want) && want != "" {
			return r, nil
		}
	}
	return paper.Receipt{}, fmt.Errorf("there is no receipt %s; coinop-agent receipt lists those that are kept", reference)
}

func draw(path string, page paper.Page) error {
	f, err := os.Create(path) //nolint:gosec // as asked
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, page.Picture()), f.Close())
}
