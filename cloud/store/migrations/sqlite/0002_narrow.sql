-- Rows that are only ever added need no autoincrement: the next number is the highest and one. The
-- small rows of stan are found by their key alone and need no number.

-- +goose Up
create table op2 (
  seq     integer primary key, -- the order of insertion
  payment blob not null,
  kind    integer not null,
  n       integer not null,
  device  text not null,
  link    text not null,
  follows integer not null,
  state   integer not null,
  ready   integer,             -- claimable from then on; null: not by time
  due     integer not null,
  lease   integer not null,
  owed    integer not null,
  tries   integer not null,
  body    blob not null,
  unique (payment, kind, n)
);
insert into op2 select seq, payment, kind, n, device, link, follows, state, ready, due, lease, owed, tries, body from op;
drop table op;
alter table op2 rename to op;
-- States below 4 are open.
create index op_open on op (ready) where state < 4;
create index op_owed on op (device) where state = 2;

create table stan2 (
  link text not null,
  tid  text not null,
  last integer not null,
  primary key (link, tid)
) without rowid;
insert into stan2 select link, tid, last from stan;
drop table stan;
alter table stan2 rename to stan;

create table transfer2 (
  seq      integer primary key,
  id       blob not null unique,
  kind     integer not null,
  ends     blob, -- of a void: the pending transfer
  tenant   text not null,
  debit    integer not null,
  credit   integer not null,
  currency integer not null,
  minor    integer not null,
  payment  blob,
  device   text not null,
  day      text not null
);
insert into transfer2 select seq, id, kind, ends, tenant, debit, credit, currency, minor, payment, device, day from transfer;
drop table transfer;
alter table transfer2 rename to transfer;
create unique index transfer_ends on transfer (ends) where ends is not null;

create table change2 (
  seq     integer primary key,
  at      integer not null,
  what    text not null,
  device  text not null,
  sale    blob,
  payment blob,
  detail  text not null
);
insert into change2 select seq, at, what, device, sale, payment, detail from change;
drop table change;
alter table change2 rename to change;
