//! Clients without retries of their own, for tests that look at single answers.

// Each test file takes what it needs.
#![allow(dead_code)]

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub(crate) async fn client(kubeconfig: &str) -> Client {
    client_of(serde_json::from_str(kubeconfig).unwrap()).await
}

pub(crate) async fn client_of(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}
