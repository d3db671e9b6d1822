package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coinop/cloud"
	"coinop/cloud/acquirer"
	"coinop/configs"
)

func configCommand(env []string) *cobra.Command {
	return configs.Program[configs.Cloud]{
		Name: "coinop-cloud", Noun: "cloud", Env: env,
		Load: configs.LoadCloud, Explain: configs.ExplainCloud, Schema: configs.CloudSchema, Check: checkFile,
	}.Command()
}

// checkFile finds what package configs cannot know.
func checkFile(f configs.Cloud) error {
	if f.HTTP != "" && !cloud.Loopback(string(f.HTTP)) {
		return configs.Errors{f.Refuse("http", cloud.ErrExposed.Error(), "write 127.0.0.1:8880, and let a reverse proxy that knows your users stand before it")}
	}
	return nil
}

// following is a file that serve runs with.
type following struct {
	path  string
	env   []string
	flags []configs.Flag
	read  configs.Cloud
	level slog.LevelVar
}

// inFile are flags of serve that stand in the file under acquirers, which a flag does not reach.
var inFile = []string{"acquirer", "institution", "late-window"}

// beside are flags of serve that no file has.
var beside = []string{"config", "ready-file", "http-ready-file"}

// config reads the file, with environment and flags above it.
func (f *following) config(c *cobra.Command) (cloud.Config, error) {
	var err error
	c.Flags().Visit(func(flag *pflag.Flag) {
		switch {
		case slices.Contains(inFile, flag.Name):
			err = fmt.Errorf("--%s: with --config it stands in the file, under acquirers", flag.Name)
		case !slices.Contains(beside, flag.Name):
			f.flags = append(f.flags, configs.Flag{Name: flag.Name, Text: flagText(flag)})
		}
	})
	if err != nil {
		return cloud.Config{}, err
	}
	if f.read, err = f.load(); err != nil {
		return cloud.Config{}, fmt.Errorf("--config:\n%w", err)
	}
	return f.made(c)
}

func (f *following) load() (configs.Cloud, error) {
	read, err := configs.LoadCloud(f.path, f.env, f.flags...)
	if err == nil {
		err = checkFile(read)
	}
	return read, err
}

func (f *following) made(c *cobra.Command) (cloud.Config, error) {
	r := f.read
	cfg := cloud.Config{Dir: string(r.Dir), Store: r.Store, Listen: string(r.Listen), Broker: r.Broker, Hosts: r.Hosts, HTTP: string(r.HTTP)}
	if cfg.Store == "sqlite" {
		cfg.Store = ""
	}
	for _, a := range r.Acquirers {
		cfg.Acquirers = append(cfg.Acquirers, cloud.Acquirer{
			Name: a.Name, Addr: string(a.Addr), Institution: a.Institution,
			Profile: acquirer.Profile{
				Flow: flowOf(a.Flow), T1MS: a.HostTimeout.Milliseconds(), LateWindowMS: a.LateWindow.Milliseconds(),
				STANPerRepeat: a.STANPerRepeat, ReversalAmount: a.ReversalAmount, ReversalFirst: a.ReversalFirst, CanQuery: a.CanQuery,
			},
		})
	}
	_ = f.level.UnmarshalText([]byte(r.Log.Level)) // one of the four it knows
	var err error
	cfg.Log, err = newLog(c.ErrOrStderr(), r.Log.Format, &f.level)
	return cfg, err
}

// follow reads the file again when it changes, and on SIGHUP, until the func it returns is called.
func (f *following) follow(ctx context.Context, log *slog.Logger) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		configs.Follow(ctx, configs.Following[configs.Cloud]{
			Path: f.path, Running: f.read.Origin, Load: f.load, Again: hup, Log: log,
			Apply: func(c configs.Cloud) []string {
				_ = f.level.UnmarshalText([]byte(c.Log.Level))
				return []string{"log.level"}
			},
		})
	})
	return func() {
		signal.Stop(hup)
		cancel()
		done.Wait()
	}
}

func flowOf(name string) acquirer.Flow {
	for f := acquirer.DualFinal; f <= acquirer.Single; f++ {
		if f.String() == name {
			return f
		}
	}
	return 0 // the file's reader lets no other name through
}

// flagText is a flag's value as the file's reader takes it: a list's words with spaces between.
func flagText(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		text := ""
		for i, one := range list.GetSlice() {
			if i > 0 {
				text += " "
			}
			text += one
		}
		return text
	}
	return f.Value.String()
}
