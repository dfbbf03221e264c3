//! Job files that Ganeti before 2.7 left behind: their numbers are texts, and they know states of
//! their own, such as `waitlock`. No such Ganeti runs beside us: nothing happens to its jobs any more.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::JobId;

/// Whether this is the content of the file of such a job.
pub fn is_old(id: JobId, bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct OldJob<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(rename = "ops")]
        _ops: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<OldJob<'_>>(bytes).is_ok_and(|job| job.id == id.to_string())
}
