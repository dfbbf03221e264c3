//! Reading what may be missing, null or strange: a strange entry costs that entry.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::ganeti::python_json::{self, Lossy};
use crate::ganeti::ssconf;

/// Objects by UUID or name.
pub(crate) type Table<T> = HashMap<String, T>;

/// A null counts as missing.
pub(super) fn or_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// What a node can be called: it is asked for, and stands in the history and the log.
pub(super) fn node_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = String::deserialize(input)?;
    if ssconf::is_name(&name) { Ok(name) } else { Err(serde::de::Error::custom("no name of a node")) }
}

/// An object whose unreadable entries are left out.
pub(super) fn table<'de, D, T>(input: D) -> Result<Table<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    input.deserialize_any(TableVisitor(PhantomData))
}

/// A list whose unreadable elements are left out.
pub(super) fn list<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    input.deserialize_any(ListVisitor(PhantomData))
}

/// An entry; what in it is not Unicode is replaced, and of what stands twice in it the last counts.
fn entry<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    let strictly = serde_json::from_str(raw.get()).ok();
    strictly.or_else(|| {
        // Once more as text: entries of entries are read from there.
        let text = serde_json::to_string(&python_json::read(raw).value?).ok()?;
        serde_json::from_str(&text).ok()
    })
}

struct TableVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for TableVisitor<T> {
    type Value = Table<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = Table::new();
        while let Some((Lossy(key), item)) = map.next_entry::<Lossy, &'de RawValue>()? {
            // Of a key that stands twice the last entry counts, readable or not.
            match entry(item) {
                Some(item) => items.insert(key, item),
                None => items.remove(&key),
            };
        }
        Ok(items)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Table::new())
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            items.extend(entry::<T>(item));
        }
        Ok(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}
