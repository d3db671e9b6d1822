// Command coinop-cloud is the service the machines talk to: broker, relay to the acquirers, ledger.
//
//	coinop-cloud device add snack-1 --dir /var/lib/coinop --out snack-1 --tid 10000001 --mid 1
//	coinop-cloud serve --dir /var/lib/coinop --listen :8883 --acquirer bank=10.0.0.5:5000 --institution 123456
//	coinop-cloud serve --config /etc/coinop/cloud.yaml
//	coinop-cloud account load 0000000001 10.00 EUR --reference "receipt 4711" --dir /var/lib/coinop
//	coinop-cloud books --dir /var/lib/coinop
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"coinop/protocol/card"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root(os.Environ()).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "coinop-cloud:", err)
		os.Exit(1)
	}
}

// version is the commit this binary was built from; the Makefile sets it.
var version = "dev"

func root(env []string) *cobra.Command {
	c := &cobra.Command{
		Use:   "coinop-cloud",
		Short: "The service unattended points of sale talk to",
		Long: `coinop-cloud is the MQTT broker the machines connect to, the relay to the acquirers,
and the ledger. Everything it must not lose is in one folder, --dir, or the ledger
in a PostgreSQL database, --store; then every command wants both.

First register machines (device add), then serve. books may be read at any time.`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	c.AddCommand(serveCommand(env), deviceCommand(), accountCommand(), booksCommand(), brokerCommand(), configCommand(env))
	return c
}

// newLog is a logger to w; card data is masked in whatever is logged.
func newLog(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(card.LogHandler(slog.NewTextHandler(w, o))), nil
	case "json":
		return slog.New(card.LogHandler(slog.NewJSONHandler(w, o))), nil
	}
	return nil, fmt.Errorf("--log %q: want text or json", format)
}

// writeReady puts a line into path in one step: whoever finds the file finds all of it.
func writeReady(path, line string) error {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	err := os.WriteFile(tmp, []byte(line+"\n"), 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("ready file: %w", errors.Join(err, os.Remove(tmp)))
	}
	return nil
}

// placeFlags are --dir and --store.
func placeFlags(c *cobra.Command, dir, store *string) {
	c.Flags().StringVar(dir, "dir", "", "folder of the keys and the ledger (needed)")
	_ = c.MarkFlagRequired("dir")
	c.Flags().StringVar(store, "store", "",
		"keep the ledger in a PostgreSQL database (15 or later) instead, as postgres://user@host/database. "+
			"A password belongs in PGPASSWORD or ~/.pgpass, not on a command line")
}
