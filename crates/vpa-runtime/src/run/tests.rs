use super::*;

const COMPONENT: Component =
    Component { name: "vpa-test", about: "A test.", default_address: ":0", lease_name: None };

fn shell() -> (Shell, mpsc::UnboundedReceiver<Error>) {
    Shell::new(&COMPONENT).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_vital_task_ends_the_process_by_name() {
    type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
    let cases: [(Work, &str); 3] = [
        (Box::pin(async { Ok(()) }), "the task watch has ended: it came to an end"),
        (Box::pin(async { Err(Error::Other("broken".into())) }), "broken"),
        (Box::pin(async { panic!("crash") }), "the task watch has ended: task"),
    ];
    for (work, text) in cases {
        let (shell, deaths) = shell();
        shell.vital("watch", work);
        let error = supervise(shell, deaths, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_ends_the_process() {
    let (shell, deaths) = shell();
    let stop = shell.stopping();
    supervise(shell, deaths, async { Ok(()) }).await.unwrap();
    assert!(stop.is_cancelled(), "its tasks are told");
    let (shell, deaths) = self::shell();
    let error =
        supervise(shell, deaths, async { Err(Error::CrdsMissing(vec!["x".into()])) }).await.unwrap_err();
    assert_eq!(error.exit_code(), 4);
}

#[tokio::test(start_paused = true)]
async fn draining_is_waited_for_but_not_for_ever() {
    let (shell, deaths) = shell();
    shell.vital("watch", {
        let stop = shell.stopping();
        async move {
            stop.cancelled().await;
            Ok(())
        }
    });
    let stop = shell.stopping();
    let body = {
        let shell = shell.clone();
        async move {
            assert!(!shell.sleep(Duration::from_secs(3600)).await);
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok(())
        }
    };
    stop.cancel();
    supervise(shell, deaths, body).await.unwrap();

    let (shell, deaths) = self::shell();
    shell.stopping().cancel();
    let began = tokio::time::Instant::now();
    let error = supervise(shell, deaths, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, Error::Aborted(_)), "{error}");
    assert_eq!(began.elapsed().as_secs(), DRAIN_MAX.as_secs());
}
