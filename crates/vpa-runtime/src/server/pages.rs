//! Pages by which a program shows what it knows, for people and scripts; served with `--profiling`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::Shared;

/// What a page was asked for: the names and values of the query.
pub type Asked = BTreeMap<String, String>;

/// Makes a page.
type Page = Arc<dyn Fn(&Asked) -> Result<String, String> + Send + Sync>;

/// The pages of a program by name. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Pages(Arc<Mutex<BTreeMap<&'static str, Page>>>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.lock().keys()).finish()
    }
}

impl Pages {
    /// Adds the page `/debug/<name>`, or replaces it. `page` makes its JSON, or says what is wrong with what was asked
    /// for; it runs on a thread that may block.
    pub fn add(
        &self,
        name: &'static str,
        page: impl Fn(&Asked) -> Result<String, String> + Send + Sync + 'static,
    ) {
        self.0.lock().insert(name, Arc::new(page));
    }
}

pub(super) async fn serve(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let page = shared.pages.0.lock().get(name.as_str()).cloned();
    let Some(page) = page else {
        let pages = shared.pages.0.lock().keys().map(|name| format!("/debug/{name}\n")).collect::<String>();
        return (
            StatusCode::NOT_FOUND,
            format!("there is no page {name}; there are:\n/debug/tasks\n{pages}"),
        )
            .into_response();
    };
    // Thousands of pods take a while; health answers on the same threads need not wait.
    match tokio::task::spawn_blocking(move || page(&asked)).await {
        Ok(Ok(text)) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
        }
        Ok(Err(wrong)) => (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
