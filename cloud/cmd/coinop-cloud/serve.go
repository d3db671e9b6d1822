package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"coinop/cloud"
	"coinop/cloud/acquirer"
)

func serveCommand(env []string) *cobra.Command {
	var (
		file        string
		cfg         cloud.Config
		acquirers   []string
		institution string
		lateWindow  time.Duration
		ready, log  string
		readyHTTP   string
	)
	c := &cobra.Command{
		Use:   "serve --config FILE | --dir DIR --listen ADDR --acquirer NAME=HOST:PORT --institution N",
		Short: "Serve machines until SIGTERM or Ctrl-C",
		Long: `serve listens for machines (MQTT over TLS, each with its own certificate), keeps one link to
each acquirer, and writes the ledger. It may be killed at any moment: the next start goes on from
what is in --dir.

All of it can stand in a file, --config, where a flag given beside it goes before what it says;
coinop-cloud config explain tells its keys. On SIGHUP or a change the file is read again, the
level of the log is taken at once, and the log says what needs a restart.

With OTEL_EXPORTER_OTLP_ENDPOINT in the environment (http://collector:4318; and, when it wants them,
OTEL_EXPORTER_OTLP_HEADERS) traces, metrics and log go to that OTLP receiver, and what the machines
say of themselves too. OTEL_METRIC_EXPORT_INTERVAL is in milliseconds, 60000.`,
		Example: `  coinop-cloud serve --config /etc/coinop/cloud.yaml

  # one bank, machines reach this host by name
  coinop-cloud serve --dir /var/lib/coinop --listen :8883 --host pos.example.com \
      --acquirer bank=10.0.0.5:5000 --institution 123456

  # the ledger on a PostgreSQL server
  coinop-cloud serve --dir /var/lib/coinop --store postgres://coinop@db.example.com/coinop --listen :8883 \
      --acquirer bank=10.0.0.5:5000 --institution 123456

  # a broker that runs elsewhere; any number of replicas share it and the ledger
  coinop-cloud serve --dir /var/lib/coinop --store postgres://coinop@db.example.com/coinop \
      --broker mqtts://mqtt.example.com:8884 --acquirer bank=10.0.0.5:5000 --institution 123456

  # a trial on this machine: any free port, and a file that says which
  coinop-cloud serve --dir /tmp/cloud --listen 127.0.0.1:0 --ready-file /tmp/cloud.addr \
      --acquirer bank=127.0.0.1:5000 --institution 1`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			switch {
			case file != "":
				f := following{path: file, env: env}
				if cfg, err = f.config(c); err != nil {
					return err
				}
				defer f.follow(c.Context(), cfg.Log)()
			case cfg.Dir == "":
				return errors.New("--dir: which folder? or --config: which file?")
			default:
				if cfg.Log, err = newLog(c.ErrOrStderr(), log, slog.LevelInfo); err != nil {
					return err
				}
				profile := acquirer.Profile{LateWindowMS: lateWindow.Milliseconds()}
				if cfg.Acquirers, err = parseAcquirers(acquirers, institution, profile); err != nil {
					return err
				}
			}
			if cfg.Telemetry, err = telemetryOf(env); err != nil {
				return err
			}
			var notReady error
			cfg.Ready = func(addr string) {
				cfg.Log.Info("ready", "addr", addr)
				if ready != "" {
					notReady = writeReady(ready, addr)
				}
				if notReady != nil {
					cfg.Log.Error("ready file not written", "error", notReady)
				}
			}
			cfg.Version = version
			cloud.PaceCollector()
			cfg.ReadyHTTP = func(addr string) {
				cfg.Log.Info("http interface", "url", "http://"+addr+"/api/v1/sales", "document", "http://"+addr+"/openapi.json")
				if readyHTTP != "" {
					if err := writeReady(readyHTTP, addr); err != nil {
						cfg.Log.Error("ready file not written", "error", err)
					}
				}
			}
			err = cloud.Run(c.Context(), cfg)
			if c.Context().Err() != nil && (err == nil || errors.Is(err, c.Context().Err())) {
				cfg.Log.Info("stopped")
				return nil
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				err = fmt.Errorf("%w; another program has %s: stop it or choose another --listen", err, cfg.Listen)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file; what else is given here goes before it")
	placeFlags(c, &cfg.Dir, &cfg.Store)
	f.SetAnnotation("dir", cobra.BashCompOneRequiredFlag, []string{"false"}) // the file may say it
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:8883", "address of the broker; port 0 is any free one")
	f.StringVar(&cfg.Broker, "broker", "", "use a broker elsewhere, mqtts://HOST:PORT, in place of the one inside at --listen; see coinop-cloud broker mosquitto")
	f.StringArrayVar(&acquirers, "acquirer", nil, "link to a host, NAME=HOST:PORT; may be repeated. None: every card is refused")
	f.StringVar(&institution, "institution", "", "acquiring institution code of the contract, ISO 8583 DE32: up to 11 digits")
	f.StringArrayVar(&cfg.Hosts, "host", nil, "name or address machines reach this service by; may be repeated (127.0.0.1, localhost)")
	f.DurationVar(&lateWindow, "late-window", 90*time.Second,
		"how long after an authorization \"not found\" is no answer to its reversal, for it may still arrive; by contract")
	f.StringVar(&ready, "ready-file", "", "file that gets the address when machines can connect")
	f.StringVar(&cfg.HTTP, "http", "", "loopback address of the HTTP interface, as in 127.0.0.1:8880; none by default, for it knows no users yet")
	f.StringVar(&readyHTTP, "http-ready-file", "", "file that gets the HTTP interface's address")
	f.StringVar(&log, "log", "text", "text or json, to standard error")
	return c
}

// telemetryOf reads the variables of OpenTelemetry's specification that are ours to follow.
func telemetryOf(env []string) (t cloud.Telemetry, err error) {
	for _, e := range env {
		name, text, _ := strings.Cut(e, "=")
		switch name {
		case "OTEL_EXPORTER_OTLP_ENDPOINT":
			t.Endpoint = text
		case "OTEL_METRIC_EXPORT_INTERVAL":
			ms, err := strconv.ParseUint(text, 10, 31)
			if err != nil || ms == 0 {
				return t, fmt.Errorf("environment %s=%q: want milliseconds", name, text)
			}
			t.Every = time.Duration(ms) * time.Millisecond //nolint:gosec // 31 bits
		case "OTEL_EXPORTER_OTLP_HEADERS":
			if t.Headers, err = headersOf(text); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// headersOf reads name=value,name=value with values as in a URL (W3C Baggage).
func headersOf(text string) (map[string]string, error) {
	out := map[string]string{}
	for _, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		name, value, ok := strings.Cut(strings.TrimSpace(one), "=")
		value, err := url.PathUnescape(value)
		if !ok || name == "" || err != nil { // what is wrong is not shown: it may be a key
			return nil, errors.New("environment OTEL_EXPORTER_OTLP_HEADERS: want name=value,name=value")
		}
		out[name] = value
	}
	return out, nil
}

// parseAcquirers reads NAME=HOST:PORT.
func parseAcquirers(texts []string, institution string, p acquirer.Profile) ([]cloud.Acquirer, error) {
	if len(texts) > 0 && (institution == "" || len(institution) > 11 || strings.Trim(institution, "0123456789") != "") {
		return nil, fmt.Errorf("--institution %q: want the 1 to 11 digits your acquirer gave you", institution)
	}
	if p.LateWindowMS < 0 {
		return nil, errors.New("--late-window: want 0s or more")
	}
	var out []cloud.Acquirer
	for _, t := range texts {
		name, addr, ok := strings.Cut(t, "=")
		if _, _, err := net.SplitHostPort(addr); !ok || name == "" || err != nil {
			return nil, fmt.Errorf("--acquirer %q: want NAME=HOST:PORT, as in bank=10.0.0.5:5000", t)
		}
		out = append(out, cloud.Acquirer{Name: name, Addr: addr, Institution: institution, Profile: p})
	}
	return out, nil
}
