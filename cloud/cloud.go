// Package cloud is the service the agents talk to: broker, relay to the acquirers, ledger.
//
//	err := cloud.Run(ctx, cloud.Config{Dir: "/var/lib/coinop", Listen: ":8883",
//	    Acquirers: []cloud.Acquirer{{Name: "bank", Addr: "10.0.0.5:5000", Institution: "00000000001"}}})
//
// The ledger is a file in Dir, or with Config.Store a database on a PostgreSQL server.
//
// Run owns every goroutine it starts and returns after the last has ended. It may be killed at any
// moment: what was promised is in the store, and the next start goes on from there.
package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"coinop/cloud/acquirer"
	"coinop/cloud/acquirer/iso8583"
	"coinop/cloud/broker"
	"coinop/cloud/identity"
	"coinop/cloud/payment"
	"coinop/cloud/relay"
	"coinop/cloud/store"
	"coinop/cloud/vault"
	"coinop/protocol"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Config of a cloud. Dir is needed.
type Config struct {
	Dir       string      // keys live here, and the ledger when Store is ""
	Store     string      // "postgres://…": the ledger's database; "": a file in Dir
	Listen    string      // of the broker; 127.0.0.1:8883
	Broker    string      // "mqtts://host:port": a broker elsewhere, which other replicas may share; "": one inside, at Listen
	Hosts     []string    // names and addresses devices reach it by; 127.0.0.1 and localhost
	Acquirers []Acquirer  // none: every card is refused
	HTTP      string      // of the HTTP interface, a loopback address; "": none
	Version   string      // of this software, for the interface's document; "dev"
	Rate      broker.Rate // of one device; zero: the broker's own
	Log       *slog.Logger
	Telemetry Telemetry
	// Ready is told the broker's address when devices can connect to it, or when what they say at the
	// broker elsewhere is heard; ReadyHTTP is told the interface's; nil: nobody.
	Ready, ReadyHTTP func(addr string)
}

// Telemetry is where traces, metrics and log go, this process's and the devices'.
type Telemetry struct {
	Endpoint string            // of an OTLP receiver, http://host:4318; "": nowhere, and what devices say is dropped
	Headers  map[string]string // of each request to it
	Every    time.Duration     // between two readings of the metrics; 60 s
}

// Acquirer is one link to a host.
type Acquirer struct {
	Name        string
	Addr        string // host:port, plain TCP
	Institution string // DE32
	Profile     acquirer.Profile
}

// Files of Dir.
const (
	keysDir       = "keys"
	vaultKeysFile = "vault.keys"
	ledgerFile    = "ledger.db"
)

// kickAfter is the time that what was last told to a device has to leave.
const kickAfter = time.Second

// storeAgain is how often a database that is not there is looked for.
const storeAgain = 500 * time.Millisecond

// sweepEvery is how often a replica looks for what is owed or left behind.
const sweepEvery = 250 * time.Millisecond

// Place is where a cloud keeps what it must not lose.
type Place struct {
	Dir   string // keys, and the ledger when Store is ""
	Store string // "postgres://…": the ledger's database
}

// ledger is the store's path.
func (p Place) ledger() string {
	if p.Store != "" {
		return p.Store
	}
	return filepath.Join(p.Dir, ledgerFile)
}

// ErrStore means a Store that is no URL of PostgreSQL.
var ErrStore = errors.New(`the store: want "postgres://user@host/database", or nothing for a file`)

// open opens the ledger.
func (p Place) open(ctx context.Context) (*store.Store, error) {
	if p.Store != "" && !store.Remote(p.Store) {
		return nil, ErrStore // not shown: it may hold a password
	}
	st, err := store.Open(ctx, store.Options{Path: p.ledger()})
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return st, nil
}

// Open opens the store and the keys, making what is missing.
func (p Place) Open(ctx context.Context) (*store.Store, identity.Keys, vault.Keys, error) {
	keys, err := identity.OpenKeys(filepath.Join(p.Dir, keysDir), time.Now())
	if err != nil {
		return nil, keys, vault.Keys{}, fmt.Errorf("keys: %w", err)
	}
	vk, err := openVaultKeys(filepath.Join(p.Dir, keysDir, vaultKeysFile))
	if err != nil {
		return nil, keys, vk, err
	}
	st, err := p.open(ctx)
	return st, keys, vk, err
}

// await is Open, when the database's server answers: a service may start before it does.
func (p Place) await(ctx context.Context, log *slog.Logger) (*store.Store, identity.Keys, vault.Keys, error) {
	for {
		st, keys, vk, err := p.Open(ctx)
		if p.Store == "" || !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrRefused) {
			return st, keys, vk, err
		}
		log.Warn("waiting for the database", "error", err)
		select {
		case <-time.After(storeAgain):
		case <-ctx.Done():
			return nil, keys, vk, context.Cause(ctx)
		}
	}
}

func openVaultKeys(path string) (vault.Keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		line, err := vault.NewKeyLine("k1")
		if err != nil {
			return vault.Keys{}, err
		}
		if err := os.WriteFile(path, line, 0o600); err != nil {
			return vault.Keys{}, err
		}
		text = line
	} else if err != nil {
		return vault.Keys{}, err
	}
	k, err := vault.ParseKeys(text)
	if err != nil {
		return k, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:8883"
	}
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []string{"127.0.0.1", "localhost"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	st, keys, vk, err := Place{cfg.Dir, cfg.Store}.await(ctx, cfg.Log)
	if err != nil {
		return err
	}
	defer st.Close()
	figures := prometheus.NewRegistry()
	tel, err := startTelemetry(ctx, cfg, st, figures)
	if err != nil {
		return err
	}
	defer endTelemetry(tel)
	cfg.Log = slog.New(tel.Handler(cfg.Log.Handler()))
	s := &shell{
		log: cfg.Log, telemetry: tel, links: map[string]acquirer.Acquirer{}, profiles: map[string]acquirer.Profile{},
		under: map[acquirer.OpKey]*underway{},
	}
	var b engine
	who := &presence{seen: map[protocol.DeviceID]protocol.Conn{}}
	parts, err := Wire(st, Wiring{
		Keys: keys, VaultKeys: vk, Log: cfg.Log,
		Profile: func(link string) (acquirer.Profile, bool) { p, ok := s.profiles[link]; return p, ok },
		Publish: func(ctx context.Context, t protocol.Topic, p []byte) error { return b.Publish(ctx, t, p) },
		Effect:  func(e payment.Effect) { s.effect(e) },
		Conn: func(c protocol.Conn) {
			who.tell(c)
			cfg.Log.Info("device", "device", c.Device, "online", c.Online, "reason", c.Reason, "connection", c.Connection)
		},
		Kick: func(d protocol.DeviceID) {
			if own, ok := b.(*broker.Broker); ok { // elsewhere it stays, and what it says is refused
				time.AfterFunc(kickAfter, func() { own.Kick(d) })
			}
		},
		Acquirers: s.acquirers, Telemetry: tel,
	})
	if err != nil {
		return err
	}
	s.parts = parts
	s.links[acquirer.Accounts] = parts.Accounts
	for _, a := range cfg.Acquirers {
		if err := s.addLink(a, parts.Vault); err != nil {
			return err
		}
	}
	if b, err = openBroker(ctx, cfg, keys, st, parts.Relay); err != nil {
		return err
	}
	figures.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), s.metrics(b, st, who))
	if cfg.HTTP != "" {
		l, err := listenAPI(cfg.HTTP)
		if err != nil {
			return err
		}
		web, end := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := serveAPI(web, l, s.handler(figures, b, st, who, cfg.Version)); err != nil {
				cfg.Log.Error("http interface ended", "error", err)
			}
		}()
		defer func() { end(); <-done }()
		if cfg.ReadyHTTP != nil {
			cfg.ReadyHTTP(l.Addr().String())
		}
	}
	if cfg.Ready != nil {
		s.wg.Go(func() {
			select {
			case <-b.Ready():
				cfg.Ready(b.Addr())
			case <-ctx.Done():
			}
		})
	}
	return s.run(ctx, b)
}

// engine is a broker as the cloud needs it: the one inside it, or its end at one elsewhere.
type engine interface {
	Run(context.Context) error
	Publish(context.Context, protocol.Topic, []byte) error
	Addr() string
	Ready() <-chan struct{}
	Stats() *broker.Stats
}

func openBroker(ctx context.Context, cfg Config, keys identity.Keys, st *store.Store, r *relay.Relay) (engine, error) {
	tap := func(m broker.Message) error { return r.Receive(relay.Message(m)) }
	if cfg.Broker != "" {
		client, err := replicaTLS(keys)
		if err != nil {
			return nil, err
		}
		return broker.NewRemote(broker.RemoteConfig{URL: cfg.Broker, TLS: client, Tap: tap, User: identity.ReplicaName, Rate: cfg.Rate, Log: cfg.Log})
	}
	server, err := serverTLS(keys, cfg.Hosts)
	if err != nil {
		return nil, err
	}
	return broker.New(broker.Config{
		Addr: cfg.Listen, TLS: server, Rate: cfg.Rate, Log: cfg.Log, Tap: tap,
		Allowed: func(d protocol.DeviceID, serial string) error { return allowed(ctx, st, d, serial) },
	})
}

// allowed lets a registered device in with the certificate it was given last.
func allowed(ctx context.Context, st *store.Store, id protocol.DeviceID, serial string) error {
	d, err := st.Device(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%s is not registered", id)
	case err != nil:
		return err
	case d.Revoked || d.Serial != serial:
		return fmt.Errorf("certificate %s of %s is not good any more", serial, id)
	}
	return nil
}

// replicaTLS is a replica's side of a connection to a broker elsewhere. The key lives as long as the
// process does.
func replicaTLS(keys identity.Keys) (*tls.Config, error) {
	me, err := keys.Replicas.Replica(time.Now())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.Authority.Cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{me.Cert}, PrivateKey: me.Key}}, RootCAs: roots, MinVersion: tls.VersionTLS13,
	}, nil
}

func serverTLS(keys identity.Keys, hosts []string) (*tls.Config, error) {
	server, err := keys.Authority.Server(hosts, time.Now())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(keys.Authority.Cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{server.Cert}, PrivateKey: server.Key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: roots, MinVersion: tls.VersionTLS13,
	}, nil
}

// NewDevice is what registering a device needs.
type NewDevice struct {
	ID       protocol.DeviceID
	Tenant   string // "default"
	Link     string // name of the link to its acquirer
	Merchant acquirer.Merchant
	Replace  bool // an existing device of this name gets a new identity; the old one is revoked
}

// AddDevice registers a device and writes its identity to out. The identity is written first: one
// that was never registered cannot connect.
func (p Place) AddDevice(ctx context.Context, out string, n NewDevice) (identity.Device, error) {
	st, keys, _, err := p.Open(ctx)
	if err != nil {
		return identity.Device{}, err
	}
	defer st.Close()
	if n.Tenant == "" {
		n.Tenant = "default"
	}
	before, err := st.Device(ctx, n.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return identity.Device{}, err
	}
	if err == nil && !n.Replace {
		return identity.Device{}, fmt.Errorf("%s: %w; --replace gives it a new identity and revokes the old one", n.ID, store.ErrExists)
	}
	cloudKeys, err := keys.Cloud()
	if err != nil {
		return identity.Device{}, err
	}
	bundle, err := keys.Authority.Device(n.ID, time.Now(), cloudKeys)
	if err != nil {
		return identity.Device{}, err
	}
	if err := bundle.Write(out); err != nil {
		return identity.Device{}, err
	}
	key, err := x509.MarshalPKIXPublicKey(&bundle.Key.PublicKey)
	if err != nil {
		return identity.Device{}, err
	}
	d := identity.Device{ID: n.ID, Tenant: n.Tenant, Serial: bundle.Serial, Key: key, Link: n.Link, Merchant: n.Merchant}
	if before.ID != "" {
		d.Old = append(before.Old, before.Serial)
	}
	return d, st.PutDevice(ctx, d, n.Replace)
}

// RevokeDevice ends a device's right to sell and to connect, within a second also where it is
// connected. Its name stays taken: device add --replace gives it a new identity.
func (p Place) RevokeDevice(ctx context.Context, id protocol.DeviceID) error {
	st, _, _, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	d, err := st.Device(ctx, id)
	if err != nil {
		return err
	}
	d.Revoked = true
	return st.PutDevice(ctx, d, true)
}

// profile fills in what a link's profile leaves open.
func (a Acquirer) profile() acquirer.Profile {
	p := a.Profile
	if p.Name == "" {
		p.Name = a.Name
	}
	if p.Flow == 0 {
		p.Flow = acquirer.DualFinal
	}
	p.Institution = a.Institution
	return p
}

func (s *shell) addLink(a Acquirer, cards acquirer.Cards) error {
	if a.Name == "" || s.links[a.Name] != nil {
		return fmt.Errorf("acquirer %q: want a name of its own", a.Name)
	}
	link, err := iso8583.NewLink(iso8583.Config{
		Name: a.Name, Addr: a.Addr, Contract: iso8583.Contract{Profile: a.profile()}, Cards: cards, Log: s.log,
		Written:    s.written,
		Late:       func(k acquirer.OpKey, ans acquirer.Answer) { s.late(k, ans) },
		BackoffMax: 10 * time.Second, BackoffMin: 200 * time.Millisecond,
	})
	if err != nil {
		return fmt.Errorf("acquirer %s: %w", a.Name, err)
	}
	s.links[a.Name], s.profiles[a.Name] = link, a.profile()
	s.hosts = append(s.hosts, host{a.Name, link})
	return nil
}
