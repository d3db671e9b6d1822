package watchdog

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// Service is systemd's watchdog of this process, and its word that we are ready (sd_notify(3)).
type Service struct {
	conn  *net.UnixConn
	every time.Duration
}

// Systemd is what the environment names; nil: nobody waits for word of us. An error: somebody does, and cannot
// be reached.
func Systemd(getenv func(string) string) (*Service, error) {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil //nolint:nilnil // nobody is no error
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"}) // @ is an abstract one
	if err != nil {
		return nil, fmt.Errorf("systemd: %w", err)
	}
	s := &Service{conn: conn}
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
			s.every = time.Duration(us) * time.Microsecond / 4
		}
	}
	return s, nil
}

// Every is how often it wants to be kicked; 0: it does not.
func (s *Service) Every() time.Duration { return s.every }

// Ready says that we have begun.
func (s *Service) Ready() error { return s.say("READY=1") }

// Kick says that all is well.
func (s *Service) Kick() error { return s.say("WATCHDOG=1") }

// Close says nothing: what stops us on purpose is systemd itself, and who replaces this process goes on in its
// place.
func (s *Service) Close() error { return s.conn.Close() }

func (s *Service) say(what string) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := s.conn.Write([]byte(what)); err != nil {
		return fmt.Errorf("systemd: %w", err)
	}
	return nil
}
