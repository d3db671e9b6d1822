package store

import (
	"context"
	"crypto/rand"
	"fmt"

	"coinop/cloud/identity"
	"coinop/protocol"
)

func scanDevice(r row, d *identity.Device) error {
	var body []byte
	if err := r.Scan(&body); err != nil {
		return err
	}
	return protocol.Decode(body, d)
}

func readDevice(ctx context.Context, q querier, id protocol.DeviceID) (identity.Device, bool, error) {
	return one(ctx, q, scanDevice, "device "+string(id), "select body from device where id = $1", string(id))
}

// Device is a registered device, or ErrNotFound.
func (s *Store) Device(ctx context.Context, id protocol.DeviceID) (identity.Device, error) {
	d, ok, err := readDevice(ctx, s.db, id)
	if err == nil && !ok {
		err = fmt.Errorf("device %s: %w", id, ErrNotFound)
	}
	return d, err
}

// PutDevice registers a device. A name that is taken is ErrExists, unless replace: then serial and
// key of the one before are gone, and with them the right to connect.
func (s *Store) PutDevice(ctx context.Context, d identity.Device, replace bool) error {
	if err := d.ID.Check(); err != nil {
		return fmt.Errorf("register %q: %w", d.ID, err)
	}
	body, err := protocol.Encode(d)
	if err != nil {
		return fmt.Errorf("encode device %s: %w", d.ID, err)
	}
	err = s.Do(ctx, Shard(d.ID), func(tx *Tx) error {
		_, there, err := readDevice(context.Background(), tx, d.ID)
		if err != nil {
			return err
		}
		if there && !replace {
			return ErrExists
		}
		tx.put(write{
			what: "put device", args: []any{string(d.ID), d.Tenant, body},
			query: "insert into device (id, tenant, body) values ($1, $2, $3)" +
				" on conflict (id) do update set tenant = excluded.tenant, body = excluded.body",
		})
		var stamp [16]byte
		_, _ = rand.Read(stamp[:])
		tx.putMeta(registryStamp, stamp[:])
		return nil
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", d.ID, err)
	}
	return nil
}

// registryStamp is the Meta that is another whenever a device was registered, replaced or revoked.
const registryStamp = "registry"

// RegistryStamp is another after every PutDevice, and only then.
func (s *Store) RegistryStamp(ctx context.Context) (string, error) {
	b, err := s.Meta(ctx, registryStamp)
	return string(b), err
}

// Devices are all registered devices, by id.
func (s *Store) Devices(ctx context.Context) ([]identity.Device, error) {
	return list(ctx, s.db, scanDevice, "devices", "select body from device order by id")
}

// Meta is a small value of the installation, such as its restore epoch; nil for none.
func (s *Store) Meta(ctx context.Context, key string) ([]byte, error) {
	v, _, err := one(ctx, s.db, scanBytes, "meta "+key, "select value from meta where key = $1", key)
	return v, err
}

// SetMeta stores a small value.
func (s *Store) SetMeta(ctx context.Context, key string, value []byte) error {
	err := s.Do(ctx, 0, func(tx *Tx) error {
		tx.putMeta(key, value)
		return nil
	})
	if err != nil {
		return fmt.Errorf("set meta %s: %w", key, err)
	}
	return nil
}

func (tx *Tx) putMeta(key string, value []byte) {
	tx.put(write{
		what: "put meta", args: []any{key, append([]byte{}, value...)},
		query: "insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value",
	})
}
