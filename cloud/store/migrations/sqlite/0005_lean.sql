-- Written with every authorization, and looked for by what they do not have: an authorization is never claimed, so the
-- index of what can be need not know it. A kept card is small and is found by its payment alone: one tree, not two.

-- +goose Up
drop index payment_device; -- nobody asks for the payments of a device
drop index op_open;
create index op_open on op (ready) where state < 4 and ready is not null;

create table card2 (
  payment blob primary key not null,
  kept    blob not null
) without rowid;
insert into card2 select payment, kept from card;
drop table card;
alter table card2 rename to card;
