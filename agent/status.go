package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop/agent/journal"
	"coinop/agent/session"
	"coinop/agent/uplink"
	"coinop/hardware"
	"coinop/protocol"
	"coinop/protocol/code"
	"coinop/protocol/money"

	"golang.org/x/sys/unix"
)

// Running says whether an agent answered.
type Running string

// What AskStatus can find.
const (
	IsRunning    Running = "running"
	NotAnswering Running = "not_answering" // it has the data folder, and says nothing, or nothing new
	NotRunning   Running = "not_running"   // what is known was read from the disk
)

// Status is how a device stands.
type Status struct {
	Running     Running   `json:"running"`
	At          time.Time `json:"at"`
	Device      string    `json:"device"`
	Certificate string    `json:"certificate,omitempty"` // its serial number
	Software    string    `json:"software,omitempty"`
	Process     int       `json:"process,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Healthy     bool      `json:"healthy"`
	// Faults are what is wrong now, the gravest first.
	Faults  []code.Fault  `json:"faults"`
	Storage StorageStatus `json:"storage"`
	Journal JournalStatus `json:"journal"`
	Link    LinkStatus    `json:"link"`
	Clock   *ClockStatus  `json:"clock,omitempty"` // absent: the cloud has not told the time yet
	Lanes   []LaneStatus  `json:"lanes"`
	// Box is what belongs to no lane: the board of door, lamp and relays.
	Box          []DeviceStatus      `json:"box,omitempty"`
	Temperatures []TemperatureStatus `json:"temperatures,omitempty"`
	LastSale     *LastSale           `json:"last_sale,omitempty"`
	// Lately is what went wrong in the last day and is over, or that only a person can end; the newest is last.
	Lately []Lately `json:"lately,omitempty"`
}

// StorageStatus is the journal's disk.
type StorageStatus struct {
	code.Fault
	Error   string `json:"error,omitempty"` // what the disk said
	Free    int64  `json:"free_bytes"`
	Ballast int64  `json:"ballast_bytes"`
	Low     int64  `json:"low_below_bytes,omitempty"`
	Full    int64  `json:"full_below_bytes,omitempty"`
	Used    int64  `json:"used_bytes"`
	Damaged int    `json:"kept_damaged"` // journals that were moved aside
}

// JournalStatus is how far the records have come.
type JournalStatus struct {
	Epoch    string       `json:"epoch,omitempty"`
	Head     protocol.Seq `json:"head"`
	Acked    protocol.Seq `json:"acked"` // the cloud holds them, by its last word
	Known    bool         `json:"acked_known"`
	Released protocol.Seq `json:"released"`
	Oldest   protocol.Seq `json:"oldest,omitempty"`
	Waiting  uint64       `json:"waiting"` // records that the cloud may lack
	Opened   string       `json:"opened,omitempty"`
	Repaired string       `json:"repaired,omitempty"`
}

// LinkStatus is the way to the cloud and the bank.
type LinkStatus struct {
	Cloud     string    `json:"cloud,omitempty"`
	Way       string    `json:"way,omitempty"`
	Connected time.Time `json:"connected_since,omitzero"`
	Heard     time.Time `json:"heard_at,omitzero"` // the cloud's last word
	Acquirer  string    `json:"acquirer,omitempty"`
	Stopped   code.Code `json:"stopped,omitempty"`
}

// ClockStatus is this device's clock against the cloud's.
type ClockStatus struct {
	AheadMS int64     `json:"ahead_ms"` // of the cloud; negative: behind
	RTTMS   int64     `json:"rtt_ms"`   // of the answer that told it: it may be off by half of that
	At      time.Time `json:"at"`
}

// LaneStatus is one place to buy.
type LaneStatus struct {
	Lane    protocol.Lane `json:"lane"`
	Phase   string        `json:"phase"`
	Refuses string        `json:"refuses,omitempty"` // why a sale could not begin now
	Selling *ModeStatus   `json:"selling,omitempty"` // absent: not known yet
	// Tampered: it was opened, and nobody has cleared that. DoorOpen is the service door, where one is wired.
	Tampered bool           `json:"tampered,omitempty"`
	DoorOpen bool           `json:"door_open,omitempty"`
	Devices  []DeviceStatus `json:"devices"`
	Cash     *CashStatus    `json:"cash,omitempty"` // absent: none is taken here
	// Terminal is one that authorizes by itself; absent: there is none.
	Terminal *TerminalStatus `json:"terminal,omitempty"`
}

// CashStatus is what a coin changer holds.
type CashStatus struct {
	Known  bool   `json:"known"` // else there is no changer that works, and no cash is taken
	Change string `json:"change"`
	Exact  bool   `json:"exact_money_only"`
	Tubes  []Tube `json:"tubes"`
}

// Tube is a tube of coins.
type Tube struct {
	Value string `json:"value"` // of one coin
	Count int    `json:"count"`
	Full  bool   `json:"full,omitempty"`
}

// cashStatus is what is known of a lane's changer; nil: it has none.
func (l *lane) cashStatus() *CashStatus {
	if l.cash == nil {
		return nil
	}
	c := &CashStatus{Known: l.leveled, Change: l.level.Change.String(), Exact: l.level.Exact, Tubes: []Tube{}}
	for _, t := range l.level.Tubes {
		c.Tubes = append(c.Tubes, Tube{money.New(t.Value, l.level.Change.Currency).String(), int(t.Count), t.Full})
	}
	return c
}

// DeviceStatus is a piece of hardware.
type DeviceStatus struct {
	Name   string    `json:"name"`
	State  string    `json:"state"`
	Code   code.Code `json:"code,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Count  int       `json:"count,omitempty"` // how often it went away since the agent's start
	// Optional: the configuration says that it need not be there.
	Optional bool `json:"optional,omitempty"`
}

// TemperatureStatus is what a thermometer said last.
type TemperatureStatus struct {
	Name  string    `json:"name"`
	Milli int32     `json:"milli_celsius"`
	At    time.Time `json:"at"`
}

// missed reports that it is not as it should be.
func (d DeviceStatus) missed() bool {
	return d.State != hardware.Ready.String() && (!d.Optional || d.State != hardware.Absent.String())
}

// LastSale is the newest sale that ended.
type LastSale struct {
	Sale      protocol.SaleID `json:"sale"`
	Lane      protocol.Lane   `json:"lane"`
	At        time.Time       `json:"at"` // by this device's clock
	How       string          `json:"how"`
	Charged   string          `json:"charged"`
	Delivered string          `json:"delivered"`
}

// lastSaleWithin is how many records back a start looks for it.
const lastSaleWithin = 256

// findLast finds the last sale among the newest records.
func (s *shell) findLast() error {
	sealed, err := s.journal.Read(s.told, lastSaleWithin)
	if err != nil {
		return err
	}
	var l lastSale
	for _, r := range sealed {
		o, err := protocol.OpenRecord(r.Bytes)
		if err != nil {
			return err
		}
		l.see(o)
		s.lately.see(o)
		s.told = r.Position.Seq
	}
	s.last = l.sale
	return nil
}

// lastSale finds it among records in order.
type lastSale struct {
	charged map[protocol.SaleID]string
	sale    *LastSale
}

func (l *lastSale) see(o protocol.Opened) {
	switch b := o.Body.(type) {
	case protocol.PaymentOutcome:
		if !o.Sale.IsZero() { // else of money that nobody bought for
			l.charged = map[protocol.SaleID]string{o.Sale: b.Amount.String()}
		}
	case protocol.SaleClosed:
		l.sale = &LastSale{Sale: o.Sale, Lane: o.Lane, At: o.At.Wall.Time(), How: b.How.String(), Charged: l.charged[o.Sale], Delivered: b.Delivered.String()}
	}
}

// base is what is known without a journal.
func (a *agent) base() Status {
	st := Status{
		Running: IsRunning, At: time.Now(), Device: string(a.cfg.Identity.Device), Certificate: a.cfg.Identity.Signer.KeyID,
		Software: a.cfg.Software, Process: os.Getpid(), Since: a.since, Lanes: []LaneStatus{},
	}
	st.Link.Cloud = a.cfg.Cloud
	st.disk(a.cfg.Data)
	st.Storage.Low, st.Storage.Full = a.cfg.Storage.Low, a.cfg.Storage.Full
	return st
}

func (st *Status) disk(data string) {
	d := journal.Measure(filepath.Join(data, journalName))
	st.Storage.Free, st.Storage.Ballast, st.Storage.Used, st.Storage.Damaged = d.Free, d.Ballast, d.Used, d.Damaged
}

// judge says what is wrong, from the parts.
func (st *Status) judge() {
	st.Faults = []code.Fault{}
	add := func(c code.Code) { st.Faults = append(st.Faults, code.Of(c)) }
	if c := st.Link.Stopped; c != "" {
		add(c)
	}
	if c := st.Storage.Code; c != code.StorageOK {
		add(c)
	}
	switch st.Journal.Opened {
	case journal.Rebuilt.String():
		add(code.StorageRebuilt)
	case journal.Renewed.String():
		add(code.StorageDamaged)
	}
	if slices.ContainsFunc(st.Lanes, func(l LaneStatus) bool { return l.Tampered }) {
		add(code.Tamper)
	}
	devices := slices.Clone(st.Box)
	for _, l := range st.Lanes {
		devices = append(devices, l.Devices...)
	}
	for _, d := range devices {
		if d.missed() {
			add(d.Code)
		}
	}
	for _, w := range []uplink.Way{uplink.WayDown, uplink.WayCloudDown, uplink.WayAcquirerDown} {
		if st.Link.Way == w.String() {
			add(linkFault(w))
		}
	}
	st.Healthy = st.Running == IsRunning && len(st.Faults) == 0
}

func linkFault(w uplink.Way) code.Code {
	switch w {
	case uplink.WayDown:
		return code.LinkDown
	case uplink.WayCloudDown:
		return code.CloudSilent
	case uplink.WayAcquirerDown:
		return code.AcquirerDown
	case uplink.WayUp:
	}
	return ""
}

// tellDown is the status while there is no journal.
func (a *agent) tellDown(cause *storageError) {
	st := a.base()
	st.Storage.Fault, st.Storage.Error = code.Of(cause.code), cause.err.Error()
	if was := a.status.now.Load(); was != nil {
		st.Journal, st.LastSale, st.Lately = was.Journal, was.LastSale, was.Lately
	} else if p, err := journal.Peek(filepath.Join(a.cfg.Data, journalName), nil); err == nil {
		st.peeked(p)
	}
	for _, l := range a.cfg.Lanes {
		st.Lanes = append(st.Lanes, LaneStatus{Lane: l.Lane, Phase: session.Idle.String(), Refuses: reason(cause.code), Devices: []DeviceStatus{}})
	}
	st.judge()
	a.status.now.Store(&st)
}

func (st *Status) peeked(p journal.Peeked) {
	st.Device = string(p.Device)
	st.Journal.Epoch, st.Journal.Head, st.Journal.Released = p.Head.Epoch.String(), p.Head.Seq, p.Released
	st.Journal.Waiting = uint64(p.Head.Seq - p.Released)
}

// tellStatus is the status of a shell that works; the owner calls it.
func (s *shell) tellStatus() {
	st := s.agent.base()
	st.Storage.Fault = code.Of(s.storage)
	head, link := s.journal.Head(), s.device.Link()
	acked, known := link.Acked()
	if !known {
		acked = max(acked, s.journal.Released())
	}
	fate, why := s.journal.Fate()
	st.Journal = JournalStatus{
		Epoch: head.Epoch.String(), Head: head.Seq, Acked: acked, Known: known, Released: s.journal.Released(), Oldest: s.journal.Oldest(),
		Waiting: uint64(head.Seq - acked), Opened: fate.String(), Repaired: why,
	}
	st.Link.Way, st.Link.Heard, st.Link.Stopped = link.Way().String(), s.heard, code.Code(link.Stopped())
	if s.conn != nil {
		st.Link.Connected = s.joined
	}
	st.Clock = s.clock
	switch link.Way() {
	case uplink.WayUp:
		st.Link.Acquirer = "up"
	case uplink.WayAcquirerDown:
		st.Link.Acquirer = "down"
	case uplink.WayDown, uplink.WayCloudDown:
		st.Link.Acquirer = "not known"
	}
	for _, c := range s.cfg.Lanes {
		l, ok := s.lanes[c.Lane]
		state, has := s.device.LaneState(c.Lane)
		if !ok || !has {
			continue
		}
		devices := l.devices
		if devices == nil {
			devices = []DeviceStatus{}
		}
		devices = slices.Clone(devices)
		for i, d := range devices {
			devices[i].Count = l.times(d.Name)
		}
		refuses := state.Gate(s.now())
		if fault := l.cardFault(link); refuses == "" && fault != "" && !l.leveled && l.terminal == nil { // no card is taken offline
			refuses = reason(fault)
		}
		st.Lanes = append(st.Lanes, LaneStatus{
			Lane: c.Lane, Phase: state.Phase().String(), Refuses: refuses, Selling: l.selling.status(), Tampered: state.Tampered(), DoorOpen: state.Door(),
			Devices: append([]DeviceStatus(nil), devices...), Cash: l.cashStatus(), Terminal: l.terminalStatus(state),
		})
	}
	st.LastSale, st.Box = s.last, slices.Clone(s.box.devices)
	st.Temperatures, st.Lately = slices.Clone(s.box.temperatures), s.lately.told(st.At)
	st.judge()
	s.agent.status.now.Store(&st)
	s.blink(st.Faults)
}

// sees keeps how a piece of hardware stands. Of a device that tells of its parts ("cash coins", "cash bills") its own
// name stands there only while it is away, and the parts only while it is not.
func sees(all []DeviceStatus, h hardware.Health) []DeviceStatus {
	all = slices.DeleteFunc(all, func(d DeviceStatus) bool {
		return partOf(h.Device, d.Name) || partOf(d.Name, h.Device)
	})
	d := DeviceStatus{Name: h.Device, State: h.State.String(), Code: code.Code(h.Code), Detail: h.Detail, Since: time.Now()}
	for i, was := range all {
		if was.Name == d.Name {
			if was.State == d.State && was.Code == d.Code {
				d.Since = was.Since
			}
			all[i] = d
			return all
		}
	}
	return append(all, d)
}

// partOf reports that a name in status is of a part of another: "cash coins" of "cash". What has a number after it is
// a device of its own: "reader 2".
func partOf(name, whole string) bool {
	rest, ok := strings.CutPrefix(name, whole+" ")
	return ok && strings.Trim(rest, "0123456789") != ""
}

// statusServer gives the newest Status to whoever connects, as one line of JSON. Its socket lies in
// the data folder, for the agent's user alone; on a disk that takes no new file it is an abstract one,
// which looks at who asks.
type statusServer struct {
	now  atomic.Pointer[Status]
	l    *net.UnixListener
	path string
	ends sync.WaitGroup
}

const statusName = "status.sock"

// hung is after how long without a new status, of one a second, the goroutine that decides is.
const hung = 10 * time.Second

// abstract is the name of a folder's socket outside of every file system.
func abstract(data string) string {
	if full, err := filepath.Abs(data); err == nil {
		data = full
	}
	sum := sha256.Sum256([]byte(data))
	return "@coinop-agent-" + hex.EncodeToString(sum[:12])
}

// serve begins to, once. The caller has the data folder's lock.
func (s *statusServer) serve(data string, log *slog.Logger) error {
	if s.l != nil {
		return nil
	}
	path := filepath.Join(data, statusName)
	l, err := listenStatus(path)
	if err != nil {
		path = abstract(data)
		var second error
		if l, second = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); second != nil {
			return errors.Join(err, second)
		}
	}
	s.l, s.path = l, path
	s.ends.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					log.Error("status is served no more", "error", err)
				}
				return
			}
			s.answer(c, strings.HasPrefix(path, "@"))
		}
	})
	return nil
}

// listenStatus makes the socket. A path too long for a socket's name is reached through its folder's
// descriptor.
func listenStatus(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	name, done, err := short(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, os.Chmod(path, 0o600)
}

// short is a name of at most 107 bytes for a path.
func short(path string) (name string, done func(), err error) {
	if len(path) < 100 {
		return path, func() {}, nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path)), func() { _ = d.Close() }, nil
}

func (s *statusServer) answer(c *net.UnixConn, ask bool) {
	defer c.Close()
	if ask && !ours(c) {
		return
	}
	now := s.now.Load()
	if now == nil {
		return
	}
	st := *now
	if st.Storage.Error != "" { // it waits for its disk, and looks no more at what it tells
		st.At = time.Now()
	} else if time.Since(st.At) > hung {
		st.Running, st.Healthy = NotAnswering, false
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_ = json.NewEncoder(c).Encode(st)
}

// ours: the other end runs as our user, or root.
func ours(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	ok := false
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) //nolint:gosec // a descriptor
		ok = err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
	})
	return ok
}

// unclean is how the last run on a data folder ended, when it left its socket behind: it did not end by itself.
func unclean(data string) string {
	st, err := os.Lstat(filepath.Join(data, statusName))
	if err != nil || st.Mode()&fs.ModeSocket == 0 {
		return ""
	}
	var sys unix.Sysinfo_t
	if unix.Sysinfo(&sys) == nil && st.ModTime().Before(time.Now().Add(-time.Duration(sys.Uptime)*time.Second)) {
		return "the computer started anew meanwhile"
	}
	return "the agent was killed, or ended by a mistake of ours"
}

func (s *statusServer) stop() {
	if s.l == nil {
		return
	}
	_ = s.l.Close()
	s.ends.Wait()
	if !strings.HasPrefix(s.path, "@") {
		_ = os.Remove(s.path)
	}
	s.l = nil
}

// AskStatus asks the agent of a data folder; when none answers, it reads what the disk says, and
// changes nothing. An error: there is nothing to read.
func AskStatus(data string) (Status, error) {
	if st, err := os.Stat(data); err != nil || !st.IsDir() {
		return Status{}, fmt.Errorf("%s: %w; is it the data folder that the agent runs with?", data, errors.Join(err, ErrData))
	}
	name, done, err := short(filepath.Join(data, statusName))
	if err != nil {
		return Status{}, err
	}
	defer done()
	for _, path := range []string{name, abstract(data)} {
		if st, err := askAt(path); err == nil {
			return st, nil
		}
	}
	st := Status{Running: NotRunning, At: time.Now(), Lanes: []LaneStatus{}}
	if pid, held := holder(data); held {
		st.Running, st.Process = NotAnswering, pid
	}
	st.disk(data)
	st.Storage.Fault = code.Of(code.StorageOK)
	var last lastSale
	var late lately
	p, err := journal.Peek(filepath.Join(data, journalName), func(o protocol.Opened) { last.see(o); late.see(o) })
	switch {
	case err == nil:
		st.peeked(p)
		st.LastSale, st.Lately = last.sale, late.told(st.At)
	case !errors.Is(err, fs.ErrNotExist):
		st.Storage.Fault, st.Storage.Error = code.Of(code.StorageFailing), err.Error()
	}
	st.judge()
	return st, nil
}

func askAt(path string) (Status, error) {
	var st Status
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	if err != nil {
		return st, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	err = json.NewDecoder(io.LimitReader(c, 1<<20)).Decode(&st)
	return st, err
}

// holder is who has the folder's lock.
func holder(data string) (pid int, held bool) {
	f, err := os.Open(filepath.Join(data, lockName))
	if err != nil {
		return 0, false
	}
	defer letGo(f)
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil { //nolint:gosec // a descriptor
		return 0, false
	}
	_, _ = fmt.Fscan(f, &pid)
	return pid, true
}
