package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL of our own in a temporary folder, reached by a Unix socket in it.
type Server struct {
	dir    string
	bin    string // folder of its programs
	as     *syscall.Credential
	keeper *exec.Cmd
	hold   io.Closer // the server stops when it is closed, or when we are gone
	pid    int       // of the server
}

// keep starts the server and stops it when its standard input ends: with this process, however that
// ends. A server must not stay behind when a test is killed.
const keep = `"$@" </dev/null & pid=$!; echo $pid; read _; kill -INT $pid 2>/dev/null; wait $pid`

// Start makes a new cluster and starts it. It fails when PostgreSQL is not there.
func Start() (_ *Server, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil { // short: a socket's path has 107 bytes at most
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.dir)
		}
	}()
	if err := s.unprivileged(); err != nil {
		return nil, err
	}
	initdb := s.command(filepath.Join(bin, "initdb"), "--no-sync", "--auth=trust", "--username=coinop", "--encoding=UTF8", "--locale=C", "-D", s.data())
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, s.Run()
}

// programs finds initdb: in the path, or where Debian keeps it, which is not in the path.
func programs() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) == 0 {
		return "", errors.New(`PostgreSQL is not installed: "make tools" does so, or "apt-get install postgresql"`)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// unprivileged: PostgreSQL refuses to run as root.
func (s *Server) unprivileged() error {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(s.dir, uid, gid)
	}
	return errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir = s.dir
	// A group of its own: Ctrl-C ends the tests, and those end the server.
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return c
}

// Dir is where all its files are.
func (s *Server) Dir() string { return s.dir }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// URL of a database.
func (s *Server) URL(database string) string {
	return "postgres://coinop@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// Run starts the server on the cluster, with every commit synced, and returns when it takes
// connections. After Kill it recovers.
func (s *Server) Run() error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := s.run(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// Its last life may not have let go of the folder yet.
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) run(deadline time.Time) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.keeper = s.command("/bin/sh", "-c", keep, "sh", filepath.Join(s.bin, "postgres"), "-D", s.data(), "-k", s.dir,
		"-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=200", "-c", "shared_buffers=64MB")
	s.keeper.Stderr = log
	if s.hold, err = s.keeper.StdinPipe(); err != nil {
		return err
	}
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	if err != nil {
		return errors.Join(err, s.stop())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for {
		conn, err := pgx.Connect(context.Background(), s.URL("postgres"))
		if err == nil {
			return conn.Close(context.Background())
		}
		if s.ended() || time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return errors.Join(fmt.Errorf("start PostgreSQL: %w\n%s", err, text), s.stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ended: its keeper has not waited for it yet, so it is there, as what Linux calls a zombie.
func (s *Server) ended() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// Kill is kill -9: nothing is said to clients, nothing is written any more.
func (s *Server) Kill() error {
	if err := syscall.Kill(s.pid, syscall.SIGKILL); err != nil {
		return err
	}
	return s.stop()
}

func (s *Server) stop() error {
	_ = s.hold.Close()
	err := s.keeper.Wait()
	var status *exec.ExitError
	if errors.As(err, &status) { // the server's, which was killed, or ended in haste
		err = nil
	}
	return err
}

// Close stops the server and removes its folder.
func (s *Server) Close() error { return errors.Join(s.stop(), os.RemoveAll(s.dir)) }
