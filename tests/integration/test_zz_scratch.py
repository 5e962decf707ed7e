import sys; sys.path.insert(0,'/work/main')
from typer.testing import CliRunner
from tests.integration.test_night_reports import watched, PIPELINE
def test_cli(watched, monkeypatch, tmp_path):
    import nightscore.lake.workspace as w, orchestration.cli.specs as s
    from orchestration.cli.app import app
    monkeypatch.setattr(w,'open_workspace',lambda *_: watched); monkeypatch.setattr(s,'find_pipeline',lambda *_: PIPELINE)
    for args in (['flights','--to',str(tmp_path/'x')],['flights','--from','2013-07-01','--to',str(tmp_path)],['flights','--markdown'],['flights','--json'],['flights','--until','2013-07-31','--json'],['flights','2013-07-31','--from','2013-07-01'],['flights','2013-08-09']):
        r=CliRunner().invoke(app,['report',*args]); print(args,r.exit_code,len(r.output),r.output[:150].replace('\n','|'),repr(r.exception)[:300])
