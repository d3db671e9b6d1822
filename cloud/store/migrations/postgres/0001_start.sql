-- Bodies are CBOR, stored once; a column beside a body is there because something searches it. Times
-- are Unix milliseconds. Ids of 16 and hashes of 32 bytes are blobs; null stands for none.
-- Text is compared byte by byte and whole numbers have 64 bits, as in SQLite.

-- +goose Up
create table meta (
  key   text collate "C" primary key not null,
  value bytea not null
);

create table device (
  id     text collate "C" primary key not null,
  tenant text collate "C" not null,
  body   bytea not null
);

create table payment (
  id      bytea primary key not null,
  sale    bytea not null,
  device  text collate "C" not null,
  tenant  text collate "C" not null,
  class   bigint not null,
  state   bigint not null,
  takes   bigint not null, -- 1: is being or was captured
  due     bigint,          -- must be looked at then although nobody asks
  version bigint not null,
  body    bytea not null
);
create index payment_sale on payment (sale);
create index payment_device on payment (device, id);
create index payment_due on payment (due) where due is not null;
-- Of a live sale one payment at most is captured. Class 1 is live.
create unique index payment_taker on payment (sale) where takes = 1 and class = 1;

create table op (
  seq     bigint generated always as identity primary key, -- the order of insertion
  payment bytea not null,
  kind    bigint not null,
  n       bigint not null,
  device  text collate "C" not null,
  link    text collate "C" not null,
  follows bigint not null,
  state   bigint not null,
  ready   bigint,          -- claimable from then on; null: not by time
  due     bigint not null,
  lease   bigint not null,
  owed    bigint not null,
  tries   bigint not null,
  body    bytea not null,
  unique (payment, kind, n)
);
-- States below 4 are open.
create index op_open on op (ready) where state < 4;
create index op_owed on op (device) where state = 2;

create table stan (
  link text collate "C" not null,
  tid  text collate "C" not null,
  last bigint not null,
  primary key (link, tid)
);

create table card (
  payment bytea primary key not null,
  kept    bytea not null
);

-- Rows are only ever added.
create table transfer (
  seq      bigint generated always as identity primary key,
  id       bytea not null unique,
  kind     bigint not null,
  ends     bytea,            -- of a void: the pending transfer
  tenant   text collate "C" not null,
  debit    bigint not null,
  credit   bigint not null,
  currency bigint not null,
  minor    bigint not null,
  payment  bytea,
  device   text collate "C" not null,
  day      text collate "C" not null
);
create unique index transfer_ends on transfer (ends) where ends is not null;

create table head (
  device   text collate "C" primary key not null,
  epoch    bytea not null,
  seq      bigint not null,
  hash     bytea not null,
  stopped  text collate "C" not null,
  released bigint not null,
  serial   text collate "C" not null,
  version  bigint not null
);

-- Rows are only ever added.
create table record (
  device      text collate "C" not null,
  epoch       bytea not null,
  seq         bigint not null,
  hash        bytea not null,
  kind        bigint not null,
  lane        bigint not null,
  sale        bytea,
  disposition bigint not null,
  quarantine  bigint not null,
  received    bigint not null,
  bytes       bytea not null,
  primary key (device, epoch, seq)
);
create index record_sale on record (sale) where sale is not null;
create index record_quarantined on record (device, epoch, seq) where disposition = 3;

create table disposition (
  device text collate "C" not null,
  cursor bigint not null, -- counts from 1 per device
  body   bytea not null,
  primary key (device, cursor)
);

create table incident (
  seq     bigint generated always as identity primary key,
  name    bigint not null,
  device  text collate "C" not null,
  payment bytea,
  at      bigint not null,
  detail  text collate "C" not null
);

create table sale_case (
  id      bytea primary key not null,
  cause   bigint not null,
  tenant  text collate "C" not null,
  device  text collate "C" not null,
  sale    bytea,
  payment bytea,
  charged bigint not null,
  opened  bigint not null
);

-- A reader of the feed keeps the last place it saw, so places must come in the order of commits,
-- although several write at once. A place is the transaction's number and a count; who reads stays
-- below the oldest transaction that still runs. Transaction numbers begin again in a new cluster: a
-- restored feed is carried on by feed_start, which the store raises when it opens.
create table feed_start (transactions bigint not null);
insert into feed_start values (0);
create sequence feed_count minvalue 0 maxvalue 1048575 cycle;

-- +goose StatementBegin
create function feed_place(xid8) returns bigint language sql stable as $$
  select ($1::text::bigint + transactions) << 20 from feed_start
$$;
-- +goose StatementEnd

create table change (
  seq     bigint primary key default feed_place(pg_current_xact_id()) | nextval('feed_count'),
  at      bigint not null,
  what    text collate "C" not null,
  device  text collate "C" not null,
  sale    bytea,
  payment bytea,
  detail  text collate "C" not null
);
